// OpenAI's JavaScript client.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "unused" });

const Town = z.object({ name: z.string(), people: z.number().int() });

const ask = (text) => [{ role: "user", content: text }];

export async function whole(text) {
  const { data, response } = await client.chat.completions.create({ model: "demo", messages: ask(text) }).withResponse();
  return { text: data.choices[0].message.content, tokens: data.usage.total_tokens, cache: response.headers.get("x-cache") };
}

export async function stream(text) {
  const pieces = [];
  let tokens;
  const chunks = await client.chat.completions.create({
    model: "demo",
    messages: ask(text),
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    const piece = chunk.choices[0]?.delta.content;
    if (piece) pieces.push(piece);
    tokens = chunk.usage?.total_tokens ?? tokens;
  }
  return { pieces, tokens };
}

export async function tools(text) {
  const called = [];
  const lookUp = {
    type: "function",
    function: {
      name: "look_up",
      parameters: { type: "object", properties: { river: { type: "string" } }, required: ["river"] },
      function: (given) => {
        called.push(given);
        return "2,850 km";
      },
    },
  };
  const runner = client.chat.completions.runTools({ model: "demo", messages: ask(text), tools: [lookUp] });
  return { text: await runner.finalContent(), called };
}

const LOOK_UP = {
  type: "function",
  name: "look_up",
  strict: false,
  parameters: { type: "object", properties: { river: { type: "string" } }, required: ["river"] },
};

export async function stream_tools(text) {
  const { type, strict, ...look_up } = LOOK_UP;
  const messages = ask(text);
  const called = [];
  const pieces = [];
  for (;;) {
    const events = client.chat.completions.stream({ model: "demo", messages, tools: [{ type, function: look_up }] });
    events.on("content", (piece) => pieces.push(piece));
    const { message } = (await events.finalChatCompletion()).choices[0];
    if (!message.tool_calls?.length) return { called, pieces };
    messages.push(message);
    for (const call of message.tool_calls) {
      called.push(call.function.arguments);
      messages.push({ role: "tool", tool_call_id: call.id, content: "2,850 km" });
    }
  }
}

export async function response_tools(text) {
  const input = ask(text);
  const called = [];
  const pieces = [];
  for (;;) {
    const events = client.responses.stream({ model: "demo", input, tools: [LOOK_UP] });
    events.on("response.output_text.delta", ({ delta }) => pieces.push(delta));
    const { output } = await events.finalResponse();
    const calls = output.filter((item) => item.type === "function_call");
    if (!calls.length) return { called, pieces };
    called.push(...calls.map((call) => call.arguments));
    const results = calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "2,850 km" }));
    input.push(...output.map(({ parsed_arguments, ...item }) => item), ...results);
  }
}

export async function structured(text) {
  const answer = await client.chat.completions.parse({
    model: "demo",
    messages: ask(text),
    response_format: zodResponseFormat(Town, "town"),
  });
  return answer.choices[0].message.parsed;
}

export async function hurry(text) {
  await client.chat.completions.create({ model: "demo", messages: ask(text) }, { timeout: 1000, maxRetries: 0 });
}

export async function leave(text) {
  const chunks = await client.chat.completions.create({ model: "demo", messages: ask(text), stream: true });
  for await (const chunk of chunks) {
    if (chunk.choices[0]?.delta.content) return chunk.choices[0].delta.content;
  }
}

export async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return ids;
}

export async function embeddings(...texts) {
  const answer = await client.embeddings.create({ model: "demo", input: texts });
  return { vectors: answer.data.map((item) => item.embedding), tokens: answer.usage.total_tokens };
}

export async function completion(text) {
  const answer = await client.completions.create({ model: "demo", prompt: text });
  const pieces = [];
  for await (const chunk of await client.completions.create({ model: "demo", prompt: text, stream: true })) {
    pieces.push(chunk.choices[0].text);
  }
  return { text: answer.choices[0].text, pieces, tokens: answer.usage.total_tokens };
}

export async function response(text) {
  const answer = await client.responses.create({ model: "demo", input: text });
  const pieces = [];
  const events = client.responses.stream({ model: "demo", input: text });
  for await (const event of events) {
    if (event.type === "response.output_text.delta") pieces.push(event.delta);
  }
  const same = (await events.finalResponse()).output_text === answer.output_text;
  return { text: answer.output_text, pieces, same, tokens: answer.usage.total_tokens };
}

export async function response_cut(text) {
  for await (const _ of await client.responses.create({ model: "demo", input: text, stream: true }));
}
