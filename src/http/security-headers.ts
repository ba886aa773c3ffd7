import { secureHeaders } from 'hono/secure-headers'

/** What browsers are told about every answer. Pages that say more, or less, set these headers themselves. */
export const securityHeaders = ({ production }: { production: boolean }) =>
  secureHeaders({
    overwrite: false,
    contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    // Only where there is https, for a year; subdomains are not ours to decide.
    strictTransportSecurity: production ? 'max-age=31536000' : false,
    xFrameOptions: 'DENY',
    // For browsers that are gone, or without meaning for an API.
    originAgentCluster: false,
    removePoweredBy: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  })
