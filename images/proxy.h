/* The proxy variables of the environment, as curl(1) and others read them. */
#ifndef CGIBOX_PROXY_H
#define CGIBOX_PROXY_H

#include "images/endpoint.h"

/*
 * The proxy for requests to ep: https_proxy or HTTPS_PROXY, http_proxy (lower case only: a CGI
 * program gets HTTP_PROXY from a request's "Proxy:"), then all_proxy or ALL_PROXY; NULL when there
 * is none or no_proxy or NO_PROXY names the host, a domain it lies in, or "*".
 */
const char *proxy_for(const struct endpoint *ep);

#endif
