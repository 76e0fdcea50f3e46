/**
 * Whether two ids mean the same user: a UUID may be written in any case, without its
 * hyphens, in braces or as a URN. The gateway writes it in one way.
 */
export function isSameUser(one: string, other: string): boolean {
  return canonical(one) === canonical(other);
}

/** The one spelling of a UUID; anything else as it is. */
export function canonical(user: string): string {
  const digits = user.replace(/^urn:uuid:|[{}-]/gi, '').toLowerCase();
  return /^[0-9a-f]{32}$/.test(digits) ? digits : user;
}
