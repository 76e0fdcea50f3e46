import {
  type FormEvent,
  useCallback,
  useEffect,
  useEffectEvent,
  useRef,
  useState,
  useTransition,
} from 'react';
import { useSession } from './session';

/** What `path` answers, and a function that asks again. */
export function useResource<T>(path: string) {
  const { request } = useSession();
  const [data, setData] = useState<T | null>(null);
  const [error, setError] = useState<string | null>(null);
  const latest = useRef(0);

  const reload = useCallback(async () => {
    const current = ++latest.current;
    try {
      const data = await request<T>(path);
      // A slow answer must not replace a newer one.
      if (current !== latest.current) return;
      setData(data);
      setError(null);
    } catch (error) {
      if (current === latest.current) setError(messageOf(error));
    }
  }, [request, path]);

  useEffect(() => {
    void reload();
  }, [reload]);

  return { data, error, reload };
}

/** Calls `callback` every `ms` milliseconds, or not at all for `null`. */
export function useInterval(callback: () => void, ms: number | null) {
  const onTick = useEffectEvent(callback);

  useEffect(() => {
    if (ms === null) return;
    const timer = setInterval(() => onTick(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/** Submits a form. Its fields are emptied on success and kept after an error. */
export function useSubmit(submit: (fields: FormData) => Promise<void>) {
  const [isPending, startTransition] = useTransition();
  const [error, setError] = useState<string | null>(null);

  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    startTransition(async () => {
      try {
        await submit(new FormData(form));
        form.reset();
        setError(null);
      } catch (error) {
        setError(messageOf(error));
      }
    });
  };

  return { onSubmit, isPending, error };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
