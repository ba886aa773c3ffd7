import { secureHeaders } from 'hono/secure-headers'

/** Security headers for every response. Pages that need other values set these headers themselves. */
export const securityHeaders = ({ production }: { production: boolean }) =>
  secureHeaders({
    overwrite: false,
    contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    // One year, and only with https; the service does not decide for subdomains.
    strictTransportSecurity: production ? 'max-age=31536000' : false,
    xFrameOptions: 'DENY',
    // For obsolete browsers, or meaningless for an API.
    originAgentCluster: false,
    removePoweredBy: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  })
