/* Locals that own a reference to a value of json-c: given back on every return. As isolate/own.h. */
#ifndef CGIBOX_OWN_JSON_H
#define CGIBOX_OWN_JSON_H

#include <json-c/json.h>

static inline void own_json(struct json_object **o)
{
	json_object_put(*o); /* NULL is fine */
}

#define OWN_JSON __attribute__((cleanup(own_json))) struct json_object

#endif
