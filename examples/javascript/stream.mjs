// Print an answer as it comes, with fetch alone: server-sent events, an error among them if it breaks off.

const { GATEWAY = "http://127.0.0.1:8080", KEY = "unused", MODEL = "demo" } = process.env;

const response = await fetch(`${GATEWAY}/v1/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
  body: JSON.stringify({ model: MODEL, stream: true, messages: [{ role: "user", content: "Tell me of the Danube." }] }),
});
if (!response.ok) throw new Error((await response.json()).error.message);

let rest = "";
let ended = false;
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  const events = (rest + text).split("\n\n");
  rest = events.pop();
  for (const event of events) {
    const data = event.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
    if (!data) continue; // a comment, such as what the answer has cost
    if (data === "[DONE]") ended = true;
    else if (JSON.parse(data).error) throw new Error(JSON.parse(data).error.message);
    else process.stdout.write(JSON.parse(data).choices[0]?.delta.content ?? "");
  }
}
process.stdout.write("\n");
if (!ended) throw new Error("The stream ended without [DONE]: this may not be all of it.");
