import { afterEach, expect, jest, test } from '@jest/globals';
import { act, cleanup, render, screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { type Routes, failure, serve } from '../test/serve';
import { App } from './App';
import type { Notification } from './notifications';

const USERS = ['Ada', 'Grace'].map((name) => ({
  id: name.toLowerCase(),
  name,
  email: `${name.toLowerCase()}@example.com`,
}));

afterEach(cleanup);

test('without the flag the bell polls', async () => {
  const server = startServer({});
  server.notify('ada', 'Transcription ready');
  await logIn('ada');
  await bell('Notifications, 1 unread');
  expect(whichBell()).toBe('polling');
  expect(server.calls.map(({ route }) => route)).not.toContain('GET /api/notifications/stream');
});

test('the polling bell marks as read what is chosen, and deletes', async () => {
  const server = startServer({});
  server.notify('ada', 'First');
  server.notify('ada', 'Second');
  const user = await logIn('ada');
  await user.click(await bell('Notifications, 2 unread'));
  await user.click(screen.getByRole('button', { name: /First/ }));
  await user.click(await bell('Notifications, 1 unread'));
  await user.click(screen.getAllByRole('button', { name: 'Delete' })[0]!);
  await bell('Notifications');
  expect(screen.queryByText('Second')).toBeNull();
});

test('with the flag the badge counts a notification as soon as it arrives', async () => {
  const server = startServer({ enable_sse_notifications: true });
  await logIn('ada');
  await bell('Notifications');
  expect(whichBell()).toBe('live');
  await server.streams('ada');
  act(() => server.notify('ada', 'Transcription ready'));
  await bell('Notifications, 1 unread');
});

test('choosing an entry marks it as read', async () => {
  const server = startServer({ enable_sse_notifications: true });
  server.notify('ada', 'Transcription ready');
  const user = await logIn('ada');
  await user.click(await bell('Notifications, 1 unread'));
  await user.click(screen.getByRole('link', { name: /Transcription ready/ }));
  await bell('Notifications');
  await waitFor(() => expect(server.notifications[0]?.status).toBe('read'));
});

test('nothing of a user is left for the next one', async () => {
  const server = startServer({ enable_sse_notifications: true });
  server.notify('ada', 'For Ada alone');
  const user = await logIn('ada');
  await user.click(await bell('Notifications, 1 unread'));
  screen.getByText('For Ada alone');
  await server.streams('ada');

  await user.click(screen.getByRole('button', { name: 'Log out' }));
  await screen.findByRole('button', { name: 'Log in' });
  expect(screen.queryByText('For Ada alone')).toBeNull();
  expect(server.openStreams()).toEqual([]);

  await fillIn(user, 'grace');
  await user.click(await bell('Notifications'));
  await server.streams('grace');
  act(() => server.notify('ada', 'Also for Ada'));
  act(() => server.notify('grace', 'For Grace'));
  await screen.findByText('For Grace');
  expect(screen.queryByText(/for Ada/i)).toBeNull();
});

test('the page is logged out when the gateway refuses even a fresh token', async () => {
  jest.spyOn(console, 'warn').mockReturnValue();
  const server = startServer({ enable_sse_notifications: true });
  server.routes['GET /api/notifications/stream'] = () => failure(401, 'revoked');
  await logIn('ada');
  await screen.findByRole('button', { name: 'Log in' });
});

/** The REST API and the stream, in memory. Access tokens are the ids of the users. */
function startServer(flags: Record<string, boolean>) {
  const notifications: (Notification & { user: string; status: string })[] = [];
  const streams = new Map<ReadableStreamDefaultController, string>();
  let cookie: string | null = null;

  const mine = (headers: Headers) => {
    const user = headers.get('authorization')?.slice('Bearer '.length);
    return notifications.filter((notification) => notification.user === user);
  };
  const login = () => {
    const user = USERS.find(({ email }) => email === cookie);
    return user ? { access_token: user.id, user } : failure(401, 'not logged in');
  };
  const send = (stream: ReadableStreamDefaultController, event: string, data: unknown) =>
    stream.enqueue(new TextEncoder().encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));

  const routes: Routes = {
    'GET /api/flags': () => flags,
    'POST /api/auth/login': ({ body }) => {
      cookie = body.email;
      return login();
    },
    'POST /api/auth/refresh': login,
    'POST /api/auth/logout': () => {
      cookie = null;
    },
    'GET /api/transcriptions': () => [],
    'GET /api/comments': () => [],
    'GET /api/notifications': ({ headers }) => ({
      notifications: mine(headers),
      unread_count: mine(headers).filter(({ status }) => status === 'unread').length,
    }),
    'POST /api/notifications/read': ({ headers, body }) => {
      for (const each of mine(headers)) if (body.ids.includes(each.id)) each.status = 'read';
    },
    'GET /api/notifications/stream': ({ headers, signal }) => {
      const user = headers.get('authorization')!.slice('Bearer '.length);
      const body = new ReadableStream({
        start(stream) {
          streams.set(stream, user);
          send(stream, 'connected', { user_id: user });
          signal?.addEventListener('abort', () => {
            streams.delete(stream);
            stream.error(signal.reason);
          });
        },
      });
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    },
  };

  return {
    routes,
    notifications,
    calls: serve(routes),
    openStreams: () => [...streams.values()],
    streams: (user: string) => waitFor(() => expect([...streams.values()]).toEqual([user])),
    notify(user: string, title: string) {
      const id = String(notifications.length + 1);
      const notification = {
        id,
        user,
        type: 'success',
        title,
        message: '',
        link: `#transcription-${id}`,
        status: 'unread' as const,
        created_at: new Date().toISOString(),
      };
      notifications.unshift(notification);
      routes[`DELETE /api/notifications/${id}`] = () => {
        notifications.splice(notifications.indexOf(notification), 1);
      };
      for (const [stream, owner] of streams)
        if (owner === user) send(stream, 'notification', notification);
    },
  };
}

async function logIn(name: string) {
  const user = userEvent.setup();
  render(<App />);
  await fillIn(user, name);
  return user;
}

async function fillIn(user: ReturnType<typeof userEvent.setup>, name: string) {
  await user.type(await screen.findByLabelText('E-mail'), `${name}@example.com`);
  await user.type(screen.getByLabelText('Password'), 'bell');
  await user.click(screen.getByRole('button', { name: 'Log in' }));
}

function bell(name: string) {
  return screen.findByRole('button', { name });
}

function whichBell() {
  return document.querySelector<HTMLElement>('[data-bell]')?.dataset['bell'];
}
