import { expect, jest, test } from '@jest/globals';
import { failure, serve } from '../test/serve';
import { createSession } from './session';

const ada = { id: '1', name: 'Ada', email: 'ada@example.com' };
const grace = { id: '2', name: 'Grace', email: 'grace@example.com' };

function start(refresh: () => unknown) {
  const calls = serve({
    'POST /api/auth/refresh': refresh,
    'GET /api/comments': ({ headers }) =>
      headers.get('authorization') === 'Bearer new' ? [] : failure(401, 'expired'),
  });
  const onEnd = jest.fn();
  const session = createSession({ access_token: 'old', user: ada }, onEnd);
  return { calls, onEnd, session };
}

test('requests with an expired token share one refresh and are repeated', async () => {
  const { calls, onEnd, session } = start(() => ({ access_token: 'new', user: ada }));
  const get = () => session.request('/api/comments');
  expect(await Promise.all([get(), get(), get()])).toEqual([[], [], []]);
  expect(calls.filter(({ route }) => route === 'POST /api/auth/refresh')).toHaveLength(1);
  expect(onEnd).not.toHaveBeenCalled();
});

test('the session ends when the refresh is refused', async () => {
  const { onEnd, session } = start(() => failure(401, 'not logged in'));
  await expect(session.request('/api/comments')).rejects.toThrow();
  expect(onEnd).toHaveBeenCalledTimes(1);
  expect(await session.getToken()).toBeNull();
});

test('the session ends when the cookie is that of another user', async () => {
  const { onEnd, session } = start(() => ({ access_token: 'new', user: grace }));
  expect(await session.getToken({ fresh: true })).toBeNull();
  expect(onEnd).toHaveBeenCalledTimes(1);
});

test('the session goes on when the server is away', async () => {
  const { onEnd, session } = start(() => failure(503, 'try later'));
  await expect(session.getToken({ fresh: true })).rejects.toThrow('try later');
  expect(onEnd).not.toHaveBeenCalled();
  expect(await session.getToken()).toBe('old');
});
