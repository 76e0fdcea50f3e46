/** The live bell against a running gateway and its database. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { act, cleanup, render, screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import {
  control,
  createUser,
  database,
  fetchStream,
  listOf,
  markAsRead,
  missingSettings,
  notify,
  unreadCount,
} from '../test/gateway';
import { serve } from '../test/serve';
import { LiveBell } from './LiveBell';
import { SessionContext, createSession } from './session';

if (missingSettings.length > 0) {
  const message = `The stream tests need a gateway. Set ${missingSettings.join(', ')}.`;
  if (process.env['CI_REQUIRE_BELL'] === '1') throw new Error(message);
  process.stderr.write(`\n!!! SKIPPED !!! ${message}\n\n`);
}
const describeWithGateway = missingSettings.length > 0 ? describe.skip : describe;

const WAIT = { timeout: 30_000 };
jest.setTimeout(60_000);

describeWithGateway('the live bell', () => {
  beforeAll(() => database.connect());
  afterEach(cleanup);
  afterAll(() => database.end());

  test('connects with the authorisation it was given', async () => {
    const page = await openPage();
    expect(page.streams).toHaveLength(1);
    expect(page.streams[0]?.authorization).toBe(`Bearer ${page.token}`);
    expect(page.onEnd).not.toHaveBeenCalled();
  });

  test('shows a message that a DBA types', async () => {
    const { user } = await openPage();
    await act(() => notify(user.id, 'Export ready'));
    await bell('Notifications, 1 unread');
    // The panel is closed, so this is the toast.
    await screen.findByText('Export ready', {}, WAIT);
    expect(screen.getAllByText('by SQL')).toHaveLength(1);
  });

  test('reconnects with exponential backoff and has missed nothing', async () => {
    const { user, streams } = await openPage();
    await act(() => notify(user.id, 'before'));
    await bell('Notifications, 1 unread');

    await act(() => control('stop'));
    const failed = () => streams.filter(({ status }) => status === 'failed');
    await waitFor(() => expect(failed().length).toBeGreaterThanOrEqual(3), WAIT);
    await act(() => notify(user.id, 'meanwhile 1', 'meanwhile 2'));
    await act(() => control('start'));
    await waitFor(() => expect(streams.at(-1)?.status).toBe(200), WAIT);
    expect(streams.at(-1)?.lastEventId).toBeTruthy();

    await userEvent.click(await bell('Notifications, 3 unread'));
    for (const title of ['before', 'meanwhile 1', 'meanwhile 2']) {
      expect(screen.getAllByRole('button', { name: new RegExp(title) })).toHaveLength(1);
    }
    // The waits are at most 1, 2, 4 … seconds, and jitter takes away no more than half.
    failed().forEach(({ at }, failures) => {
      const next = streams[streams.findIndex((stream) => stream.at === at) + 1];
      expect(next!.at - at).toBeGreaterThanOrEqual(500 * 2 ** failures - 10);
    });
  });

  test('keeps the unread count of the whole state', async () => {
    const { user, calls } = await openPage({ before: ['there before', 'there before as well'] });
    await bell('Notifications, 2 unread');
    await act(() => notify(user.id, 'live'));
    await userEvent.click(await bell('Notifications, 3 unread'));
    await userEvent.click(screen.getByRole('button', { name: /live unread/ }));
    await bell('Notifications, 2 unread');
    await waitFor(async () => expect(await unreadCount(user.id)).toBe(2), WAIT);

    await userEvent.click(await bell('Notifications, 2 unread'));
    await userEvent.click(screen.getByRole('button', { name: 'Mark all as read' }));
    await bell('Notifications');
    await waitFor(async () => expect(await unreadCount(user.id)).toBe(0), WAIT);
    // The poll that follows does not undo it.
    await waitFor(() => expect(calls.at(-1)?.route).toBe('GET /api/notifications'), WAIT);
    await bell('Notifications');
  });

  test('closes everything on unmount and opens it again', async () => {
    const { user, token, calls, streams, mount, unmount } = await openPage();
    unmount();
    expect(streams[0]?.signal?.aborted).toBe(true);
    const callsBefore = calls.length;

    const witness = await openStream(token);
    await notify(user.id, 'unheard');
    await witness.hears('unheard');
    expect(calls).toHaveLength(callsBefore);

    mount();
    await bell('Notifications, 1 unread');
    await waitFor(() => expect(streams.at(-1)?.status).toBe(200), WAIT);
    expect(streams).toHaveLength(2);
  });
});

interface StreamAttempt {
  readonly at: number;
  readonly authorization: string | null;
  readonly lastEventId: string | null;
  readonly signal: AbortSignal | null | undefined;
  status?: number | 'failed';
}

/** The page of a new user. The test answers for the REST API, from the database. */
async function openPage({ before = [] as string[] } = {}) {
  const login = await createUser();
  const { user, access_token: token } = login;
  await notify(user.id, ...before);

  const streams: StreamAttempt[] = [];
  const calls = serve({
    'POST /api/auth/refresh': () => login,
    'GET /api/notifications': ({ url }) => listOf(user.id, url.searchParams.get('limit')),
    'POST /api/notifications/read': ({ body }) => markAsRead(user.id, body.ids),
    'POST /api/notifications/read-all': () => markAsRead(user.id),
    'GET /api/notifications/stream': async ({ headers, signal, init }) => {
      const attempt: StreamAttempt = {
        at: Date.now(),
        authorization: headers.get('authorization'),
        lastEventId: headers.get('last-event-id'),
        signal,
      };
      streams.push(attempt);
      try {
        const response = await fetchStream(init);
        attempt.status = response.status;
        return response;
      } catch (error) {
        attempt.status = 'failed';
        throw error;
      }
    },
  });

  const onEnd = jest.fn();
  const session = createSession(login, onEnd);
  const mount = () =>
    render(
      <SessionContext value={session}>
        <LiveBell />
      </SessionContext>,
    );
  const { unmount } = mount();
  await waitFor(() => expect(streams[0]?.status).toBe(200), WAIT);
  return { user, token, calls, streams, onEnd, mount, unmount };
}

/** A stream of the user beside the page's. */
async function openStream(token: string) {
  const headers = { authorization: `Bearer ${token}` };
  const { body } = await fetchStream({ headers });
  const reader = body!.getReader();
  const decoder = new TextDecoder();
  return {
    async hears(text: string) {
      let heard = '';
      while (!heard.includes(text)) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`The stream ended without "${text}".`);
        heard += decoder.decode(value, { stream: true });
      }
      await reader.cancel();
    },
  };
}

function bell(name: string) {
  return screen.findByRole('button', { name }, WAIT);
}
