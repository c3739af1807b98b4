#include "isolate/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isolate/mutate.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT           47
#define PR_CAP_AMBIENT_RAISE     2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

enum { CAPS_MAX = 64 };

static int caps_get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};

	return (int)syscall(SYS_capget, &h, data);
}

static int caps_set(uint64_t mask, uint64_t inheritable)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].permitted = data[i].effective = (uint32_t)(mask >> (32 * i));
		data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
	}
	return (int)syscall(SYS_capset, &h, data);
}

static uint64_t caps_permitted(const struct __user_cap_data_struct data[2])
{
	return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* The bounding set ends where the kernel's list of capabilities does: EINVAL. */
int creds_bound(struct err *e)
{
	for (int cap = 0; !MUTATED("caps-bounding") && cap < CAPS_MAX; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		return errno == EINVAL && cap > 0
			       ? 0
			       : err_set(e, ERR_SETUP, errno,
					 "drop capability %d from the bounding set", cap);
	}
	return 0;
}

static int prove(uint64_t mask, struct err *e)
{
	struct __user_cap_data_struct data[2];

	if (MUTATED("caps-proof"))
		return 0;
	if (caps_get(data) < 0)
		return err_set(e, ERR_SETUP, errno, "read the capabilities back");
	for (int i = 0; i < 2; i++) {
		uint32_t want = (uint32_t)(mask >> (32 * i));

		if (data[i].permitted != want || data[i].effective != want || data[i].inheritable)
			return err_set(e, ERR_BUG, 0, "capabilities remain after the drop");
	}
	for (int cap = 0; cap < CAPS_MAX; cap++) {
		int ret = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (ret < 0)
			break;
		if (ret > 0)
			return err_set(
				e, ERR_BUG, 0, "capability %d remains in the bounding set", cap);
	}
	return 0;
}

int creds_settle(uint64_t mask, struct err *e)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
				   SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	if (!MUTATED("caps-ambient") &&
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "clear the ambient capabilities");
	if (!MUTATED("caps-securebits") && prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "lock the securebits");
	if (!MUTATED("caps-drop") && caps_set(mask, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "drop capabilities");
	return prove(mask, e);
}

int creds_keep(uint64_t mask, struct err *e)
{
	return creds_bound(e) < 0 ? -1 : creds_settle(mask, e);
}

int creds_none(struct err *e)
{
	if (!MUTATED("caps-drop") && caps_set(0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "drop capabilities");
	return prove(0, e);
}

int creds_raise_ambient(uint64_t mask, struct err *e)
{
	struct __user_cap_data_struct data[2];
	uint64_t all;

	if (caps_get(data) < 0)
		return err_set(e, ERR_SETUP, errno, "read the capabilities");
	all = caps_permitted(data) & mask;
	if (caps_set(caps_permitted(data), all) < 0)
		return err_set(e, ERR_SETUP, errno, "make capabilities inheritable");
	for (int cap = 0; cap < CAPS_MAX; cap++)
		if ((all >> cap & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return err_set(e, ERR_SETUP, errno, "raise ambient capability %d", cap);
	return 0;
}
