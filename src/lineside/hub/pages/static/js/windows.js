// @ts-check
/**
 * `sat sun 22:00 to 04:00`, one a line; what it cannot read it hands on, so that the hub says what
 * is wrong.
 * @param {string} text
 */
export function windowsOf(text) {
  const lines = text.split("\n").map((line) => line.trim().toLowerCase()).filter(Boolean);
  return lines.map((line) => {
    const [head, ends = ""] = line.split(/\s+to\s+/, 2);
    const words = head.split(/\s+/);
    const begins = words.pop() ?? "";
    const days = words.join(" ") === "every day" ? [] : words;
    return { days, begins, ends };
  });
}
