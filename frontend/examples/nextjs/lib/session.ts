import { jwtVerify } from 'jose';
import { cookies } from 'next/headers';

// The gateway has the same secret (`--jwt-secret`) and reads the same cookie (`--jwt-cookie`).
const COOKIE = 'session';

/** Who is logged in, as the token names them; null where nobody is. */
export async function currentUser(): Promise<string | null> {
  const token = (await cookies()).get(COOKIE)?.value;
  if (token === undefined) return null;
  try {
    const secret = new TextEncoder().encode(process.env['JWT_SECRET']);
    const { payload } = await jwtVerify(token, secret, { algorithms: ['HS256'] });
    return payload.sub ?? null;
  } catch {
    return null;
  }
}
