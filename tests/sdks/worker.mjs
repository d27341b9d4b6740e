// What worker.py is, for programs in JavaScript.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// What a library prints is no answer.
console.log = console.info = console.debug = console.error;

function kinds(error) {
  const names = [];
  for (let at = Object.getPrototypeOf(error); at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    names.push(at.constructor.name);
  }
  if (!names.includes(error.name)) names.unshift(error.name);
  return names;
}

async function answer(request) {
  try {
    const program = await import(pathToFileURL(request.program));
    return { returned: (await program[request.do](...request.with)) ?? null };
  } catch (error) {
    return { raised: { kinds: kinds(error), message: String(error.message), trace: String(error.stack) } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
