import { currentUser } from './session';

/**
 * The user of a request for `?user=`. A cookie belongs to the user who has logged in
 * last, in any tab: a page of the user before must not be answered with the rows of this one.
 */
export async function userOf(request: Request): Promise<string | Response> {
  const user = await currentUser();
  if (user === null) return new Response(null, { status: 401 });
  const isSame = new URL(request.url).searchParams.get('user') === user;
  return isSame ? user : new Response(null, { status: 409 });
}
