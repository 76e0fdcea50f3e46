import { markAsRead } from '../../../../lib/inbox';
import { userOf } from '../../../../lib/request';

export async function POST(request: Request): Promise<Response> {
  const user = await userOf(request);
  if (user instanceof Response) return user;
  const { ids } = (await request.json()) as { ids: string[] | null };
  await markAsRead(user, ids);
  return new Response(null, { status: 204 });
}
