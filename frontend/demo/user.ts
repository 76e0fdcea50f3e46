import { Problem, request } from './request.js';

/** A user of the demo, as its application tells of them. */
export interface User {
  readonly name: string;
  readonly user_id: string;
  readonly token: string;
  /** Command lines that read and write for them. */
  readonly curl: string;
  readonly psql: string;
}

/** Both users. After a restart of the gateway they are others, with the same names. */
export async function fetchUsers(): Promise<readonly User[]> {
  const { users } = Object(await request('/demo/config')) as { users?: readonly User[] };
  if (!users?.length) throw new Problem('There are no demo users');
  return users;
}
