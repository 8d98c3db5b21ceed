// Follow the twin of a hub: `node twin_client.mjs URL TOKEN_FILE`; in a page: `import { states }`.

/** Change a state by JSON Patch operations; the hub sends add, remove and replace. */
export function patched(state, operations) {
  for (const { op, path, value } of operations) {
    const steps = path.split("/").slice(1).map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = steps.pop();
    const parent = steps.reduce((node, step) => node[step], state);
    if (!Array.isArray(parent)) {
      if (op === "remove") delete parent[last];
      else parent[last] = value;
    } else if (op === "add") parent.splice(Number(last), 0, value);
    else if (op === "remove") parent.splice(Number(last), 1);
    else parent[Number(last)] = value;
  }
  return state;
}

/** Yields the twin as it stands, and again after each change. */
export async function* states(url, token) {
  const response = await fetch(`${url}/api/v1/twin/live`, { headers: { authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [state, rest] = [{}, ""];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((one) => one.startsWith("data: "))) {
      const message = JSON.parse(line.slice(6));
      yield (state = message.snapshot ?? patched(state, message.patch));
    }
  }
}

if (typeof process !== "undefined" && process.argv[1]?.endsWith("twin_client.mjs")) {
  const { readFileSync } = await import("node:fs");
  for await (const twin of states(process.argv[2], readFileSync(process.argv[3], "utf8").trim())) {
    for (const { id, colour, seen, evidence } of Object.values(twin.slots)) {
      console.log(id, colour || seen, evidence.at, evidence.frame);
    }
  }
}
