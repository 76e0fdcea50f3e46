import { readPage } from '../../../lib/inbox';
import { userOf } from '../../../lib/request';

export async function GET(request: Request): Promise<Response> {
  const user = await userOf(request);
  if (user instanceof Response) return user;
  const limit = Number(new URL(request.url).searchParams.get('limit') ?? 20);
  return Response.json(await readPage(user, Math.min(limit, 200)));
}
