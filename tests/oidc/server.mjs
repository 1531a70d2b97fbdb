// An OpenID provider that lets everybody in at once. Each line on stdin is JSON: `claims` that its next
// tokens say (null takes one away), `alg` of a new key that it signs with from then on.
import { createInterface } from "node:readline";
import { OAuth2Server } from "oauth2-mock-server";

const server = new OAuth2Server();
let claims = {};
const { keys } = server.issuer;
const get = keys.get.bind(keys);
let signer = (await keys.generate("RS256")).kid;
// By default each token is signed by the next key.
keys.get = (kid) => get(kid ?? signer);
server.service.on("beforeTokenSigning", (token) => {
  for (const [name, value] of Object.entries(claims)) {
    if (value === null) delete token.payload[name];
    else token.payload[name] = value;
  }
});
await server.start(0, "127.0.0.1");
console.log(JSON.stringify({ issuer: server.issuer.url }));

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  claims = told.claims ?? claims;
  if (told.alg) signer = (await keys.generate(told.alg)).kid;
  console.log("{}");
}
process.exit(0);
