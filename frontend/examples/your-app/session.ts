/** Whose token it is goes with it: a token of the former user must not serve the next. */
let cached: { readonly user: string; readonly token: Promise<string> } | undefined;

/** The user's bearer token; `fresh` asks the server for another one. */
export function getToken(user: string, fresh = false): Promise<string> {
  if (fresh || cached?.user !== user) cached = { user, token: requestToken(user) };
  return cached.token;
}

async function requestToken(user: string): Promise<string> {
  const response = await fetch(`/login?user=${user}`, { method: 'POST' });
  if (!response.ok) throw new Error(`the login answers ${response.status}`);
  return ((await response.json()) as { token: string }).token;
}
