import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Provider, useDispatch, useSelector } from 'react-redux';
import { read } from './notifications-slice.ts';
import { loggedIn, loggedOut } from './session-slice.ts';
import { type AppDispatch, type RootState, store } from './store.ts';

const useAppDispatch = useDispatch.withTypes<AppDispatch>();
const useAppSelector = useSelector.withTypes<RootState>();

function Badge() {
  const unreadCount = useAppSelector((state) => state.notifications.unreadCount);
  return <output aria-label="Unread">{unreadCount}</output>;
}

function List() {
  const dispatch = useAppDispatch();
  const notifications = useAppSelector((state) => state.notifications.notifications);
  return (
    <ul>
      {notifications.map(({ id, title, status }) => (
        <li key={id} data-status={status}>
          <button onClick={() => dispatch(read(id))}>{title}</button>
        </li>
      ))}
    </ul>
  );
}

function App() {
  const dispatch = useAppDispatch();
  const user = useAppSelector((state) => state.session.user);
  return (
    <>
      <form action={(form) => void dispatch(loggedIn(String(form.get('user'))))}>
        <input name="user" aria-label="User" required />
        <button>Log in</button>
        <button type="button" onClick={() => dispatch(loggedOut())}>
          Log out
        </button>
      </form>
      <p>{user === null ? 'Nobody is logged in' : `Logged in as ${user}`}</p>
      <Badge />
      <List />
    </>
  );
}

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Provider store={store}>
        <App />
      </Provider>
    </StrictMode>,
  );
}
