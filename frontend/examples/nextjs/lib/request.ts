import { currentUser } from './session';

/**
 * The user of a request for `?user=`. A cookie lets in whoever has logged in last, in any tab:
 * a page that is still another's must not be answered with what is theirs.
 */
export async function userOf(request: Request): Promise<string | Response> {
  const user = await currentUser();
  if (user === null) return new Response(null, { status: 401 });
  const isSame = new URL(request.url).searchParams.get('user') === user;
  return isSame ? user : new Response(null, { status: 409 });
}
