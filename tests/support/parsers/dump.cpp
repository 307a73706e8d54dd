// Reads one JSON document a line and writes each as nlohmann::json understood it: see tests/support/differential.py.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

using nlohmann::json;

static std::string hex(const std::string& text) {
  static const char* digits = "0123456789abcdef";
  std::string made;
  for (unsigned char byte : text) {
    made += digits[byte >> 4];
    made += digits[byte & 15];
  }
  return made;
}

static std::string joined(const std::vector<std::string>& texts) {
  std::string made;
  for (const auto& text : texts) made += (made.empty() ? "" : ",") + text;
  return made;
}

static std::string dump(const json& value) {
  if (value.is_null()) return "n";
  if (value.is_boolean()) return value.get<bool>() ? "t" : "f";
  if (value.is_string()) return "s" + hex(value.get<std::string>());
  if (value.is_number()) {
    double number = value.get<double>();
    std::uint64_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    char text[18];
    std::snprintf(text, sizeof text, "d%016llx", static_cast<unsigned long long>(bits));
    return text;
  }
  std::vector<std::string> items;
  if (value.is_array()) {
    for (const auto& each : value) items.push_back(dump(each));
    return "[" + joined(items) + "]";
  }
  for (const auto& field : value.items())
    items.push_back(hex(field.key()) + ":" + dump(field.value()));
  std::sort(items.begin(), items.end());
  return "{" + joined(items) + "}";
}

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    json value = json::parse(line, nullptr, false);
    std::cout << (value.is_discarded() ? "refused" : dump(value)) << "\n";
  }
}
