export interface User {
  readonly id: string;
  readonly name: string;
  readonly email: string;
}

export interface Login {
  readonly access_token: string;
  readonly user: User;
}

export interface RequestOptions {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export function isUnauthorized(error: unknown): boolean {
  return error instanceof ApiError && error.status === 401;
}

export async function send<T>(
  path: string,
  { method = 'GET', body, signal }: RequestOptions = {},
  token?: string,
): Promise<T> {
  const headers: Record<string, string> = {};
  if (token) headers['authorization'] = `Bearer ${token}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(path, { method, headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw new ApiError(response.status, await detailOf(response));
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export function logIn(email: string, password: string): Promise<Login> {
  return send('/api/auth/login', { method: 'POST', body: { email, password } });
}

let refreshing: Promise<Login> | undefined;

/** Asks for a new access token. Callers at the same time share one request. */
export function refresh(): Promise<Login> {
  refreshing ??= send<Login>('/api/auth/refresh', { method: 'POST' }).finally(() => {
    refreshing = undefined;
  });
  return refreshing;
}

export async function logOut(): Promise<void> {
  // The answer to a pending refresh would set the cookie again.
  await refreshing?.catch(() => undefined);
  await send('/api/auth/logout', { method: 'POST' });
}

async function detailOf(response: Response): Promise<string> {
  try {
    const { detail } = (await response.json()) as { detail: unknown };
    if (typeof detail === 'string') return detail;
  } catch {
    // A proxy's error page is not JSON.
  }
  return `The server answered ${response.status}.`;
}
