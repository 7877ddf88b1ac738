// An OpenID Connect issuer for tests: oidc-provider on loopback, with people in groups. Its one argument is JSON:
// port, redirect_uri, after_logout, jwks (private), groups (by name of person), id_token_s.
import Provider from "oidc-provider";

const given = JSON.parse(process.argv[2]);
const issuer = `http://localhost:${given.port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "watchword",
      client_secret: "a secret with : and %",
      redirect_uris: [given.redirect_uri],
      post_logout_redirect_uris: [given.after_logout],
      grant_types: ["authorization_code", "refresh_token"],
    },
    {
      client_id: "program",
      client_secret: "for programs",
      token_endpoint_auth_method: "client_secret_post",
      redirect_uris: [],
      response_types: [],
      grant_types: ["client_credentials"],
    },
  ],
  cookies: { keys: ["tests only"] },
  jwks: given.jwks,
  // Claims of the scopes are in the ID token too: what most issuers do for groups.
  conformIdTokenClaims: false,
  scopes: ["openid", "profile", "groups", "offline_access"],
  claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: given.groups[id] ?? [] }),
  }),
  issueRefreshToken: () => true,
  extraTokenClaims: (_, token) => ({ groups: given.groups[token.clientId] ?? [] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, client) => (client.clientId === "program" ? "urn:watchword" : []),
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "",
        audience: "watchword-api",
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
    rpInitiatedLogout: { enabled: true },
  },
  ttl: { IdToken: given.id_token_s, AccessToken: 300, ClientCredentials: 300, Session: 3600, Grant: 3600, Interaction: 600, RefreshToken: 3600 },
});

provider.on("server_error", (_, error) => console.error(error));
provider.listen(given.port, "127.0.0.1", () => console.log("ready"));
