export interface Call {
  readonly route: string;
  readonly url: URL;
  readonly body: any;
  readonly headers: Headers;
  readonly signal: AbortSignal | null | undefined;
  readonly init: RequestInit | undefined;
}

/** What a route returns: a `Response`, a value that becomes JSON, or nothing, which is a 204. */
export type Routes = Record<string, (call: Call) => unknown>;

/**
 * Answers all requests of the page: `serve({ 'GET /api/flags': () => ({}) })`.
 * Resolves to 404 for a route that is missing. Returns the calls so far.
 */
export function serve(routes: Routes): readonly Call[] {
  const calls: Call[] = [];
  globalThis.fetch = async (input, init) => {
    const url = new URL(String(input), location.href);
    const call: Call = {
      route: `${init?.method ?? 'GET'} ${url.pathname}`,
      url,
      body: init?.body && JSON.parse(String(init.body)),
      headers: new Headers(init?.headers),
      signal: init?.signal,
      init,
    };
    calls.push(call);
    const route = routes[call.route] ?? (() => failure(404, 'Not Found'));
    const answer = await route(call);
    if (answer instanceof Response) return answer;
    return answer === undefined ? new Response(null, { status: 204 }) : Response.json(answer);
  };
  return calls;
}

export function failure(status: number, detail: string): Response {
  return Response.json({ detail }, { status });
}
