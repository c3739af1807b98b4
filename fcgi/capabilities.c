#include "fcgi/capabilities.h"

static const char *const names[CAPABILITIES] = {
	[CAN_HOST_IMAGE] = "host_image",
	[CAN_KEEP_ROOT] = "keep_root",
	[CAN_ROOT_FILES] = "root_files",
	[CAN_ROOT_EMULATION] = "root_emulation",
	[CAN_LAYERS] = "layers",
	[CAN_BLOCK_NETWORKS] = "block_networks",
	[CAN_DEPENDENCIES] = "dependencies",
	[CAN_TERMINAL] = "terminal",
	[CAN_PORTS] = "ports",
};

const char *capability_name(enum capability c)
{
	return names[c];
}

int capability_lacking(enum capability c, struct err *e)
{
	return err_set(e, ERR_REQUEST, 0, "%s cannot do this: it lacks the capability \"%s\"",
		c >= CAN_TERMINAL ? "engine_runtime = runsc" : "backend = docker", names[c]);
}
