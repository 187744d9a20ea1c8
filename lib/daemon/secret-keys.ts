/** Names of keys whose values are credentials, in configurations, API bodies and log fields. */
export const SECRET_KEYS: ReadonlySet<string> = new Set([
  'auth',
  'registry_token',
  'registry_auth',
  'access_key_id',
  'access_key_secret',
  'encryption_key',
  'headers',
  'patch',
])
