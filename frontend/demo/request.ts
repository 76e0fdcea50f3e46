const TIMEOUT_MS = 10_000;

/** What went wrong, as RFC 9457 puts it. */
export class Problem extends Error {
  constructor(
    readonly title: string,
    readonly detail = '',
  ) {
    super(`${title}. ${detail}`.trim());
  }
}

/** Asks the demo's application; with a `body` it is told something. */
export async function request(path: string, body?: object, signal?: AbortSignal): Promise<unknown> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const options: RequestInit = {
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    cache: 'no-store',
  };
  if (body) {
    options.method = 'POST';
    options.headers = { 'content-type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  let response: Response;
  let answer: string;
  try {
    response = await fetch(path, options);
    answer = await response.text();
  } catch {
    if (timeout.aborted) {
      throw new Problem(
        'No answer for 10 seconds',
        'Browsers allow six connections to a host over HTTP/1.1: are there many tabs?',
      );
    }
    throw new Problem('The gateway cannot be reached', 'Is it still running?');
  }
  const value = parse(answer);
  if (response.ok) return value;
  const { title, detail } = Object(value) as { title?: unknown; detail?: unknown };
  throw new Problem(
    typeof title === 'string' ? title : `Status ${response.status}`,
    typeof detail === 'string' ? detail : '',
  );
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
