import { type ReactNode, createContext, use, useEffect, useState } from 'react';
import { send } from './api';

type Flags = Readonly<Record<string, boolean>>;

const FlagsContext = createContext<Flags>({});

export function useFlag(name: string): boolean {
  return use(FlagsContext)[name] ?? false;
}

/** Shows nothing until the flags are known; all of them are off if they cannot be loaded. */
export function FlagsProvider({ children }: { readonly children: ReactNode }) {
  const [flags, setFlags] = useState<Flags | null>(null);

  useEffect(() => {
    send<Flags>('/api/flags').then(setFlags, () => setFlags({}));
  }, []);

  return flags && <FlagsContext value={flags}>{children}</FlagsContext>;
}
