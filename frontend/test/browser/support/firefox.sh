#!/bin/sh
# Starts Firefox without what Playwright always sets: that it ends with the first of
# its pages that crashes.
unset MOZ_CRASHREPORTER_SHUTDOWN
exec "$FIREFOX_BIN" "$@"
