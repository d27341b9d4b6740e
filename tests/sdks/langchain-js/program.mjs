// LangChain for JavaScript.

import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent } from "langchain";
import { z } from "zod";

const model = new ChatOpenAI({ model: "demo", configuration: { baseURL: "http://127.0.0.1:8080/v1" }, apiKey: "unused" });

const Town = z.object({ name: z.string(), people: z.number().int() });

export async function whole(text) {
  const answer = await model.invoke(text);
  return { text: answer.content, tokens: answer.usage_metadata.total_tokens };
}

export async function stream(text) {
  const pieces = [];
  let tokens;
  for await (const chunk of await model.stream(text)) {
    if (chunk.content) pieces.push(chunk.content);
    tokens = chunk.usage_metadata?.total_tokens ?? tokens;
  }
  return { pieces, tokens };
}

export async function tools(text) {
  const called = [];
  const lookUp = tool(
    (given) => {
      called.push(given);
      return "2,850 km";
    },
    { name: "look_up", description: "The length of a river.", schema: z.object({ river: z.string() }) },
  );
  const agent = createAgent({ model, tools: [lookUp] });
  const { messages } = await agent.invoke({ messages: [{ role: "user", content: text }] });
  return { called, text: messages.at(-1).content };
}

export async function structured(text) {
  return await model.withStructuredOutput(Town).invoke(text);
}

export async function hurry(text) {
  const hasty = new ChatOpenAI({
    model: "demo",
    configuration: { baseURL: "http://127.0.0.1:8080/v1" },
    apiKey: "unused",
    timeout: 1000,
    maxRetries: 0,
  });
  await hasty.invoke(text);
}

export async function leave(text) {
  for await (const chunk of await model.stream(text)) {
    if (chunk.content) return chunk.content;
  }
}
