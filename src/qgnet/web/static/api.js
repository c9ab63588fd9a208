// Requests to the server. Refused requests become errors with a message to show.

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Send a request; resolves to a Response, or throws a Refusal with a message. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refusal("The server does not answer. Start `qgnet serve` again: what was saved is still there.", 0);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let message = text || answer.statusText;
  try {
    message = JSON.parse(text).error;
  } catch {
    // not a message of the server in JSON: show the text
  }
  throw new Refusal(message, answer.status);
}

export const getJson = async (path) => (await ask(path)).json();

export const sendJson = (method, path, content) =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

/** The bytes of a file; null if it does not exist. */
export async function getBytes(path) {
  try {
    return await (await ask(path)).arrayBuffer();
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
