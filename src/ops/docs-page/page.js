import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'

const document_ = await (await fetch('./openapi.json')).json()

SwaggerUI({
  dom_id: '#api',
  // "Try it out" asks the service that served this page, whichever of its addresses was opened.
  spec: { ...document_, servers: [{ url: new URL('.', location.href).href.replace(/\/$/, '') }] },
  deepLinking: true,
  filter: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
})
