// Ask a question, ask it again, ask it in other words; print where each answer came from. In Node: npm install openai

import OpenAI from "openai";

const { GATEWAY = "http://127.0.0.1:8080", KEY = "unused", MODEL = "demo" } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY });

for (const question of ["How do I reset my password?", "How do I reset my password?", "How can I reset my password?"]) {
  const messages = [{ role: "user", content: question }];
  const { data, response } = await client.chat.completions.create({ model: MODEL, messages }).withResponse();
  console.log(response.headers.get("x-cache").padEnd(9), question, " -> ", data.choices[0].message.content.length, "letters");
}
