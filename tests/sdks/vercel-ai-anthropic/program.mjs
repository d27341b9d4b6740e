// Vercel's AI SDK with its client of Anthropic's, which speaks Messages.

import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

const sentinel = createAnthropic({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "unused" });

const Town = z.object({ name: z.string(), people: z.number().int() });

export async function whole(text) {
  const answer = await generateText({ model: sentinel("demo"), prompt: text });
  return { text: answer.text, tokens: answer.usage.totalTokens, cache: answer.response.headers["x-cache"] };
}

export async function stream(text) {
  let failure;
  const answer = streamText({ model: sentinel("demo"), prompt: text, onError: ({ error }) => (failure = error) });
  const pieces = [];
  for await (const piece of answer.textStream) pieces.push(piece);
  if (failure) throw failure;
  return { pieces, tokens: (await answer.usage).totalTokens };
}

const lookUp = (called) =>
  tool({
    description: "The length of a river.",
    inputSchema: z.object({ river: z.string() }),
    execute: async (given) => {
      called.push(given);
      return "2,850 km";
    },
  });

export async function tools(text) {
  const called = [];
  const asked = { model: sentinel("demo"), prompt: text, tools: { lookUp: lookUp(called) }, stopWhen: isStepCount(3) };
  return { called, text: (await generateText(asked)).text };
}

export async function stream_tools(text) {
  let failure;
  const called = [];
  const asked = { model: sentinel("demo"), prompt: text, tools: { lookUp: lookUp(called) }, stopWhen: isStepCount(3) };
  const pieces = [];
  for await (const piece of streamText({ ...asked, onError: ({ error }) => (failure = error) }).textStream) pieces.push(piece);
  if (failure) throw failure;
  return { called, pieces };
}

export async function structured(text) {
  const answer = await generateText({ model: sentinel("demo"), prompt: text, output: Output.object({ schema: Town }) });
  return answer.output;
}

export async function hurry(text) {
  await generateText({ model: sentinel("demo"), prompt: text, maxRetries: 0, abortSignal: AbortSignal.timeout(1000) });
}

export async function leave(text) {
  const leaving = new AbortController();
  const answer = streamText({ model: sentinel("demo"), prompt: text, abortSignal: leaving.signal });
  for await (const piece of answer.textStream) {
    leaving.abort();
    return piece;
  }
}
