import {
  createNotificationClient,
  eventSourceTransport,
  oneStreamPerBrowser,
} from './notify-gateway.min.js';

const bell = document.querySelector('.bell');
const part = (name) => bell.querySelector(`.bell-${name}`);
const { user, login } = bell.dataset;

async function call(method, path, { body, signal } = {}) {
  const response = await fetch(`/api/notifications${path}`, {
    method,
    headers: {
      'content-type': 'application/json',
      // Of the logout form, which each page with a bell has.
      'x-csrftoken': document.querySelector('[name=csrfmiddlewaretoken]').value,
    },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(`${method} ${path} answers ${response.status}`);
  return response.status === 204 ? undefined : response.json();
}

const api = {
  async list({ limit, signal }) {
    const page = await call('GET', `?limit=${limit}`, { signal });
    return { notifications: page.results, unreadCount: page.unread_count };
  },
  markAsRead: (ids, { signal }) => call('POST', '/read', { body: { ids }, signal }),
  markAllAsRead: ({ signal }) => call('POST', '/read-all', { signal }),
  remove: (ids, { signal }) => Promise.all(ids.map((id) => call('DELETE', `/${id}`, { signal }))),
};

/** Renews the stream's cookie; null where the session is over. */
async function renewCookie() {
  const response = await fetch('/api/notifications/token');
  if (response.status === 401) return null;
  if (!response.ok) throw new Error(`the token view answers ${response.status}`);
}

const client = createNotificationClient({
  url: '/api/notifications/stream',
  user,
  share: oneStreamPerBrowser(user),
  transport: eventSourceTransport(),
  token: renewCookie,
  api,
  onAuthenticationError: () => location.assign(login),
  onUserChanged: () => location.reload(),
});

const timeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

function entry({ id, title, link, status, created_at }) {
  const item = bell.querySelector('template').content.cloneNode(true).firstElementChild;
  const find = (name) => item.querySelector(`.bell-${name}`);
  item.dataset.status = status;
  find('title').textContent = title;
  if (link) find('title').href = link;
  find('time').dateTime = created_at;
  find('time').textContent = timeFormat.format(new Date(created_at));
  find('read').hidden = status === 'read';
  // What fails is taken back by the client's next request for the list.
  find('read').onclick = () => client.markAsRead(id).catch(() => {});
  find('remove').onclick = () => client.remove(id).catch(() => {});
  return item;
}

let drawn;

function draw() {
  const { status, unreadCount, notifications } = client.getState();
  bell.dataset.status = status;
  part('badge').value = unreadCount;
  part('badge').hidden = part('read-all').hidden = unreadCount === 0;
  if (notifications === drawn) return;
  drawn = notifications;
  part('empty').hidden = notifications.length > 0;
  part('list').replaceChildren(...notifications.map(entry));
}

part('read-all').onclick = () => client.markAllAsRead().catch(() => {});
client.subscribe(draw);

// The cookie that is there may be of a former login. A renewal that fails here is tried again by
// the client when the gateway refuses the stream.
await renewCookie().catch(() => {});
client.start();
