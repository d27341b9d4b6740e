// Anthropic's JavaScript client.

import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const client = new Anthropic({ baseURL: "http://127.0.0.1:8080", apiKey: "unused" });

const Town = z.object({ name: z.string(), people: z.number().int() });

const lookUp = {
  name: "look_up",
  description: "The length of a river.",
  input_schema: { type: "object", properties: { river: { type: "string" } }, required: ["river"] },
};

const ask = (text) => ({ model: "demo", max_tokens: 1000, messages: [{ role: "user", content: text }] });

const tokens = (usage) => usage.input_tokens + usage.output_tokens;

export async function whole(text) {
  const { data, response } = await client.messages.create(ask(text)).withResponse();
  return { text: data.content[0].text, tokens: tokens(data.usage), cache: response.headers.get("x-cache") };
}

export async function stream(text) {
  const pieces = [];
  const events = client.messages.stream(ask(text)).on("text", (piece) => pieces.push(piece));
  const message = await events.finalMessage();
  return { pieces, tokens: tokens(message.usage) };
}

export async function tools(text) {
  const asked = { ...ask(text), tools: [lookUp] };
  const called = [];
  for (;;) {
    const { content } = await client.messages.create(asked);
    const calls = content.filter((block) => block.type === "tool_use");
    if (!calls.length) return { called, text: content[0].text };
    called.push(...calls.map((call) => call.input));
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "2,850 km" }));
    asked.messages = [...asked.messages, { role: "assistant", content }, { role: "user", content: results }];
  }
}

export async function stream_tools(text) {
  const asked = { ...ask(text), tools: [lookUp] };
  const called = [];
  const pieces = [];
  for (;;) {
    const { content } = await client.messages.stream(asked).on("text", (piece) => pieces.push(piece)).finalMessage();
    const calls = content.filter((block) => block.type === "tool_use");
    if (!calls.length) return { called, pieces };
    called.push(...calls.map((call) => call.input));
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "2,850 km" }));
    asked.messages = [...asked.messages, { role: "assistant", content }, { role: "user", content: results }];
  }
}

export async function searched(text) {
  const asked = { ...ask(text), tools: [{ type: "web_search_20250305", name: "web_search" }] };
  const headers = { "anthropic-beta": "some-beta-2026-01-01" };
  const whole = await client.messages.create(asked, { headers });
  const streamed = await client.messages.stream(asked, { headers }).finalMessage();
  return [whole, streamed].map(({ stop_reason, content }) => [stop_reason, content]);
}

export async function structured(text) {
  const answer = await client.messages.parse({ ...ask(text), output_config: { format: zodOutputFormat(Town) } });
  return answer.parsed_output;
}

export async function hurry(text) {
  await client.messages.create(ask(text), { timeout: 1000, maxRetries: 0 });
}

export async function leave(text) {
  for await (const event of await client.messages.create({ ...ask(text), stream: true })) {
    if (event.delta?.text) return event.delta.text;
  }
}

export async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return ids;
}

export async function count(text) {
  const { model, messages } = ask(text);
  return (await client.messages.countTokens({ model, messages })).input_tokens;
}
