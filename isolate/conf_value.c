/* Settings with a form of their own, checked where file and line are known. */
#include <string.h>

#include "isolate/cidr.h"
#include "isolate/conf.h"
#include "isolate/own.h"

/* A page with scripts and our origin could take its sandbox off. */
static int check_rights(const char *value, struct err *e)
{
	static const char words[] = "allow-";

	for (const char *p = value; *p; p += strcspn(p, " ")) {
		p += strspn(p, " ");
		if (*p && (strncmp(p, words, strlen(words)) ||
				  p[strspn(p, "abcdefghijklmnopqrstuvwxyz- ")]))
			return err_set(e, ERR_CONF, 0,
				"manager_page_rights: words that begin with allow-");
		if (!strncmp(p, "allow-same-origin", strlen("allow-same-origin")))
			return err_set(e, ERR_CONF, 0,
				"manager_page_rights: allow-same-origin would make tenants' pages "
				"pages of this host");
	}
	return 0;
}

/* A network of the Engine's own by name or id. What else its API takes there is no separate network. */
static int check_network(const char *value, struct err *e)
{
	static const char fine[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (!strcmp(value, "host"))
		return err_set(e, ERR_CONF, 0,
			"engine_network: \"host\" is this machine's own network, all that listens "
			"on loopback included; name one of your own (docker network create)");
	if (!strcmp(value, "none"))
		return err_set(e, ERR_CONF, 0,
			"engine_network: \"none\" is no network; leave it empty for that");
	if (!strncmp(value, "container:", strlen("container:")))
		return err_set(e, ERR_CONF, 0,
			"engine_network: \"%.60s\" would put all sessions into another container's "
			"network; name a network (docker network create)",
			value);
	return value[strspn(value, fine)]
		       ? err_set(e, ERR_CONF, 0,
				 "engine_network: \"%.60s\" is no name of a network", value)
		       : 0;
}

int conf_check_value(const char *key, const char *value, struct err *e)
{
	struct cidr nets[CIDR_LIST_MAX];
	size_t n;

	if (!strcmp(key, "engine_network"))
		return check_network(value, e);
	if (!strcmp(key, "settings_of"))
		return conf_check_services(value, e);
	if (!strcmp(key, "manager_page_rights"))
		return check_rights(value, e);
	if (strcmp(key, "network_blocked") != 0)
		return 0;
	return cidr_list_parse(value, nets, NELEM(nets), &n, e) < 0 ? err_in(e, "%s", key) : 0;
}
