// Reads one JSON document a line and writes each as JSON.parse understood it: see tests/support/differential.py.
const hex = (text) => Buffer.from(text, "utf8").toString("hex");
const dump = (value) => {
  if (value === null) return "n";
  if (value === true) return "t";
  if (value === false) return "f";
  if (typeof value === "number") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    return "d" + bytes.toString("hex");
  }
  if (typeof value === "string") return "s" + hex(value);
  if (Array.isArray(value)) return "[" + value.map(dump).join(",") + "]";
  const fields = Object.keys(value).map((key) => hex(key) + ":" + dump(value[key]));
  return "{" + fields.sort().join(",") + "}";
};
const lines = require("fs").readFileSync(0, "utf8").split("\n").filter((line) => line);
for (const line of lines) {
  let said;
  try {
    said = dump(JSON.parse(line));
  } catch (error) {
    said = "refused";
  }
  console.log(said);
}
