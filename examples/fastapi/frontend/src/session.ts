import { createContext, use } from 'react';
import {
  type Login,
  type RequestOptions,
  type User,
  ApiError,
  isUnauthorized,
  refresh,
  send,
} from './api';

export type Request = <T = void>(path: string, options?: RequestOptions) => Promise<T>;

/**
 * One login of one user. The access token is only kept here, so a late request
 * of this user can never be sent with the token of the next one.
 */
export interface Session {
  readonly user: User;
  /** Resolves to `null` once the session has ended. */
  readonly getToken: (options?: { readonly fresh?: boolean }) => Promise<string | null>;
  readonly request: Request;
  readonly end: () => void;
}

export function createSession(login: Login, onEnd: () => void): Session {
  const { user } = login;
  let token: string | null = login.access_token;

  const end = () => {
    if (token === null) return;
    token = null;
    onEnd();
  };

  const renew = async () => {
    try {
      const renewed = await refresh();
      // The cookie belongs to somebody else if they have logged in in another tab.
      if (renewed.user.id !== user.id) end();
      else if (token !== null) token = renewed.access_token;
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
      end();
    }
  };

  const getToken: Session['getToken'] = async ({ fresh = false } = {}) => {
    if (fresh && token !== null) await renew();
    return token;
  };

  const request: Request = async (path, options) => {
    const first = token;
    if (first === null) throw new ApiError(401, 'You are logged out.');
    try {
      return await send(path, options, first);
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
    }
    // Another request may have renewed the token in the meantime.
    const second = await getToken({ fresh: token === first });
    if (second === null) throw new ApiError(401, 'You are logged out.');
    try {
      return await send(path, options, second);
    } catch (error) {
      if (isUnauthorized(error)) end();
      throw error;
    }
  };

  return { user, getToken, request, end };
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = use(SessionContext);
  if (session === null) throw new Error('useSession() needs a SessionContext above it.');
  return session;
}
