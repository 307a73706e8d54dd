// Reads one JSON document a line and writes each as encoding/json understood it: see tests/support/differential.py.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
)

func dump(value any) string {
	switch v := value.(type) {
	case nil:
		return "n"
	case bool:
		if v {
			return "t"
		}
		return "f"
	case float64:
		return fmt.Sprintf("d%016x", math.Float64bits(v))
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case []any:
		items := []string{}
		for _, each := range v {
			items = append(items, dump(each))
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		fields := []string{}
		for key, each := range v {
			fields = append(fields, hex.EncodeToString([]byte(key))+":"+dump(each))
		}
		sort.Strings(fields)
		return "{" + strings.Join(fields, ",") + "}"
	}
	return "unknown"
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	for lines.Scan() {
		var value any
		if err := json.Unmarshal(lines.Bytes(), &value); err != nil {
			fmt.Println("refused")
			continue
		}
		fmt.Println(dump(value))
	}
}
