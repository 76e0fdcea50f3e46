import { StrictMode, useEffect, useLayoutEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Toaster, toast } from 'sonner';
import {
  NotificationBell,
  type NotificationBellProps,
  NotificationProvider,
  useNotificationClient,
  useNotificationSSE,
  useOncePerBrowser,
  useUnreadCount,
} from '../../../src/react/index.js';
import '../../../src/style.css';
import { become, options, probe, watch } from './setup.js';

const given = await options();

/** Sonner, with a note of what it is asked to show. */
const noted = {
  success: (title: string, data: { id: string; description: string }) => {
    probe.toasts.push(`success: ${title}`);
    return toast.success(title, data);
  },
  error: (title: string, data: { id: string; description: string }) => {
    probe.toasts.push(`error: ${title}`);
    return toast.error(title, data);
  },
  dismiss: (id: string) => toast.dismiss(id),
};

function Status() {
  const leads = useOncePerBrowser(({ title }) => {
    probe.rung.push(title);
  });
  const { status, reason, retry } = useNotificationSSE();
  return (
    <p>
      <output data-testid="status">{status}</output> <span>{reason}</span>
      <output data-testid="leads">{String(leads)}</output>
      <output data-testid="count">{useUnreadCount()}</output>
      <button onClick={retry}>retry</button>
    </p>
  );
}

function Watch() {
  const client = useNotificationClient();
  useLayoutEffect(() => {
    watch(client);
  }, [client]);
  return null;
}

function App() {
  const [isMounted, setMounted] = useState(true);
  const [bell, setBell] = useState<NotificationBellProps>({});
  const [user, setUser] = useState<string | null | undefined>(given.user);
  useEffect(() => {
    probe.setMounted = setMounted;
    probe.setBell = setBell;
    probe.draw = () => {
      setBell({
        renderItem: ({ title }) => (
          <p>
            <button onClick={() => probe.told.push(`inner of ${title}`)}>inner</button>
            drawn: {title}
          </p>
        ),
        renderActions: ({ title }, standard) => (
          <>
            <button onClick={() => probe.told.push(`own action of ${title}`)}>own action</button>
            {standard}
          </>
        ),
        renderHeader: (standard) => (
          <>
            {standard}
            <button onClick={() => probe.told.push('settings')}>settings</button>
          </>
        ),
      });
    };
    probe.become = (next) => {
      become(next);
      setUser(next);
    };
  }, []);
  useLayoutEffect(() => {
    probe.became?.(user ?? null);
  }, [user]);
  return (
    <>
      <Toaster />
      {isMounted && (
        <NotificationProvider {...given} user={user} toast={noted}>
          <NotificationBell {...bell} />
          <Status />
          <Watch />
        </NotificationProvider>
      )}
      <button>elsewhere</button>
    </>
  );
}

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
