#include "fcgi/handler.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "fcgi/json_out.h"
#include "fcgi/json_scan.h"
#include "isolate/own.h"

/* What stands before the value: a byte that no JSON holds, a word, the nonce, a space. */
#define MARK                                                                                       \
	"\x1e"                                                                                     \
	"cgibox-value "

enum { JOB_MAX = 256 << 20 };

/*
 * The code becomes the module __main__ itself, which pickle and multiprocessing look up; the
 * wrapper's names are gone by then. What closes or replaces standard output does not reach the
 * value: it has a descriptor of its own. Frames of the wrapper are cut off tracebacks.
 */
static const char python[] =
	"def main():\n"
	"    import sys, os, json, linecache\n"
	"    with open(0, 'rb', closefd=False) as f:\n"
	"        job = json.loads(f.read())\n"
	"    null = os.open('/dev/null', os.O_RDONLY)\n"
	"    os.dup2(null, 0)\n"
	"    os.close(null)\n"
	"    out = os.dup(1)\n"
	"    os.environ.update(job['env'])\n"
	"    if job['cwd']:\n"
	"        os.chdir(job['cwd'])\n"
	"    space = sys.modules['__main__'].__dict__\n"
	"    del space['main']\n"
	"    def fail(status):\n"
	"        kind, value, tb = sys.exc_info()\n"
	"        while tb and tb.tb_frame.f_code.co_filename == '<string>':\n"
	"            tb = tb.tb_next\n"
	"        value = value.with_traceback(tb)\n"
	"        if sys.excepthook is sys.__excepthook__:\n" /* which does not know linecache */
	"            from traceback import print_exception\n"
	"            print_exception(kind, value, tb)\n"
	"        else:\n"
	"            sys.excepthook(kind, value, tb)\n"
	"        sys.exit(status)\n"
	"    def finite(v):\n"
	"        if isinstance(v, float):\n"
	"            return v if v - v == 0 else None\n"
	"        if isinstance(v, dict):\n"
	"            return {k: finite(x) for k, x in v.items()}\n"
	"        if isinstance(v, (list, tuple)):\n"
	"            return [finite(x) for x in v]\n"
	"        return v\n"
	"    def dump(v):\n"
	"        try:\n"
	"            t = json.dumps(v, ensure_ascii=False, allow_nan=False)\n"
	"        except ValueError:\n"
	"            t = json.dumps(finite(v), ensure_ascii=False, allow_nan=False)\n"
	"        t = t.encode('utf-16-le', 'surrogatepass').decode('utf-16-le', "
	"'replace').encode()\n"
	"        if len(t) > job['max']:\n"
	"            raise ValueError('the return value has %d bytes, at most %d are kept'"
	" % (len(t), job['max']))\n"
	"        return t\n"
	"    text, status = job['code'], job['exit']\n"
	"    linecache.cache['<code>'] = (len(text), None, text.splitlines(True), '<code>')\n"
	"    try:\n"
	"        exec(compile(text, '<code>', 'exec', dont_inherit=True), space)\n"
	"        if not callable(space.get('handler')):\n"
	"            raise NameError('the code defines no function handler(event)')\n"
	"    except Exception:\n"
	"        fail(status[0])\n"
	"    try:\n"
	"        value = space['handler'](job['event'])\n"
	"    except Exception:\n"
	"        fail(status[1])\n"
	"    try:\n"
	"        value = dump(value)\n"
	"    except Exception:\n"
	"        fail(status[2])\n"
	"    for f in (sys.stdout, sys.stderr):\n"
	"        try:\n"
	"            f.flush()\n"
	"        except Exception:\n"
	"            pass\n"
	"    value = memoryview(b'\\x1ecgibox-value %s %s\\n' % (job['nonce'].encode(), value))\n"
	"    while value:\n"
	"        value = value[os.write(out, value):]\n"
	"    os.close(out)\n"
	"main()\n";

/*
 * The code is a script of its own, not inside a function, so that a declared function is global.
 * Pipes are written synchronously on Linux. A promise that is never settled would end node with 0.
 */
static const char javascript[] =
	"(() => {\n"
	"const fs = require('fs'), vm = require('vm');\n"
	"const job = JSON.parse(fs.readFileSync(0, 'utf8'));\n"
	"fs.closeSync(0);\n"
	"fs.openSync('/dev/null', 'r');\n"
	"const write = process.stdout.write.bind(process.stdout);\n"
	"const say = process.stderr.write.bind(process.stderr);\n"
	"const exit = process.exit.bind(process), dump = JSON.stringify, bytes = "
	"Buffer.byteLength;\n"
	"Object.assign(process.env, job.env);\n"
	"if (job.cwd) process.chdir(job.cwd);\n"
	"const status = job.exit;\n"
	"let pending = true;\n"
	"const fail = (code, e) => {\n"
	"  pending = false;\n"
	"  say(String(e && e.stack || e) + '\\n');\n"
	"  exit(code);\n"
	"};\n"
	"const done = (v) => {\n"
	"  let text;\n"
	"  try {\n"
	"    text = v === undefined ? 'null' : dump(v);\n"
	"    if (text === undefined) throw new TypeError('the return value is no JSON');\n"
	"    const n = bytes(text);\n"
	"    if (n > job.max)\n"
	"      throw new RangeError(`the return value has ${n} bytes, at most ${job.max} are "
	"kept`);\n"
	"  } catch (e) { return fail(status[2], e); }\n"
	"  pending = false;\n"
	"  write(`\\x1ecgibox-value ${job.nonce} ${text}\\n`);\n"
	"};\n"
	"process.on('exit', (code) => {\n"
	"  if (!pending || code) return;\n"
	"  if (process.exitCode === undefined) {\n"
	"    say('handler: its promise was never settled\\n');\n"
	"    process.exitCode = status[1];\n"
	"  }\n"
	"});\n"
	"const reallyExit = process.exit;\n"
	"process.exit = (...a) => { pending = false; reallyExit.apply(process, a); };\n"
	"let handler;\n"
	"try {\n"
	"  vm.runInThisContext(job.code, {filename: 'code.js',\n"
	"    importModuleDynamically: (vm.constants || {}).USE_MAIN_CONTEXT_DEFAULT_LOADER});\n"
	"  handler = vm.runInThisContext(\n"
	"    \"typeof handler === 'function' ? handler : undefined\", {filename: 'code.js'});\n"
	"  if (!handler && typeof module !== 'undefined' && module.exports)\n"
	"    handler = module.exports.handler;\n"
	"  if (typeof handler !== 'function')\n"
	"    throw new ReferenceError('the code defines no function handler(event)');\n"
	"} catch (e) { fail(status[0], e); }\n"
	"try {\n"
	"  Promise.resolve(handler(job.event)).then(done, (e) => fail(status[1], e));\n"
	"} catch (e) { fail(status[1], e); }\n"
	"})();\n";

/* The script's own lines begin at 1, and its positional parameters are empty. */
static const char shell[] = "set -- \"$(cat)\" || exit 126; exec </dev/null; eval \"set --; $1\"";

static const struct {
	const char *names[3];
	const char *argv[4];
} languages[HANDLER_LANGUAGE_MAX] = {
	[HANDLER_PYTHON] = {{"python"}, {"python3", "-c", python}},
	[HANDLER_JAVASCRIPT] = {{"javascript", "node"}, {"node", "-e", javascript}},
	[HANDLER_SHELL] = {{"shell", "sh"}, {"sh", "-c", shell}},
};

bool handler_language_find(const char *name, enum handler_language *out)
{
	for (int i = 0; i < HANDLER_LANGUAGE_MAX; i++)
		for (size_t k = 0; languages[i].names[k]; k++)
			if (!strcmp(languages[i].names[k], name)) {
				*out = (enum handler_language)i;
				return true;
			}
	return false;
}

const char *handler_program(enum handler_language l)
{
	return languages[l].argv[2];
}

static int make_nonce(char out[HANDLER_NONCE_LEN + 1], struct err *e)
{
	unsigned char raw[HANDLER_NONCE_LEN / 2];

	if (getrandom(raw, sizeof raw, 0) != sizeof raw)
		return err_set(e, ERR_SETUP, errno, "make a random number");
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

static void put_json(struct buf *b, const char *name, const char *text)
{
	buf_addf(b, ",\"%s\":", name);
	buf_adds(b, text ? text : "{}");
}

static void put_job(struct buf *b, const struct handler_job *job, const char *nonce)
{
	buf_addf(b, "{\"nonce\":\"%s\",\"max\":%lld,\"exit\":%s", nonce,
		(long long)job->value_max_bytes, job->phases ? "[1,2,3]" : "[1,1,1]");
	put_json(b, "event", job->event);
	put_json(b, "env", job->env);
	buf_adds(b, ",\"cwd\":");
	json_out_text(b, job->cwd ? job->cwd : "");
	buf_adds(b, ",\"code\":");
	json_out_string(b, job->code, job->code_bytes);
	buf_addc(b, '}');
}

/* Sealed: what runs has it as its input for a moment, and must not change it for another. */
static int input_file(const char *p, size_t n, struct err *e)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	OWN_FD fd = memfd_create("code", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	for (size_t done = 0; fd >= 0 && done < n;) {
		ssize_t w = write(fd, p + done, n - done);

		if (w <= 0)
			return err_set(e, ERR_SETUP, errno, "memory for the code");
		done += (size_t)w;
	}
	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
		return err_set(e, ERR_SETUP, errno, "memory for the code");
	return take_fd(&fd);
}

int handler_prepare(const struct handler_job *job, struct handler *out, struct err *e)
{
	OWN_BUF b = BUF_INIT(JOB_MAX);
	bool plain = job->language == HANDLER_SHELL;

	*out = (struct handler){.argv = languages[job->language].argv, .stdin_fd = -1};
	if (memchr(job->code, '\0', job->code_bytes))
		return err_set(e, ERR_REQUEST, 0, "the code holds a NUL character");
	if (make_nonce(out->nonce, e) < 0)
		return -1;
	if (!plain)
		put_job(&b, job, out->nonce);
	if (!buf_ok(&b))
		return err_set(e, ERR_LIMIT, ENOMEM, "code and event are too large");
	out->stdin_fd = plain ? input_file(job->code, job->code_bytes, e)
			      : input_file(b.p, b.len, e);
	return out->stdin_fd < 0 ? -1 : 0;
}

/* Where the last mark begins that a line feed ends; NULL: there is none. */
static const char *find_mark(const char *text, size_t n, const char *mark, size_t len)
{
	const char *p;

	for (size_t left = n; (p = memrchr(text, MARK[0], left)); left = (size_t)(p - text)) {
		size_t rest = n - (size_t)(p - text);

		if (rest > len && !memcmp(p, mark, len) && memchr(p + len, '\n', rest - len))
			return p;
	}
	return NULL;
}

static int check_value(const char *p, size_t n, struct err *e)
{
	const struct json_scan_plan plan = {
		.copy = false, .archive_fd = -1, .copy_max = INT64_MAX, .archive_max = INT64_MAX};
	struct json_scan s;
	int ret;

	json_scan_init(&s, &plan);
	ret = json_scan_feed(&s, p, n, e);
	if (ret == 0)
		ret = json_scan_end(&s, e);
	json_scan_clear(&s);
	return ret;
}

enum handler_outcome handler_parse(
	const char *text, size_t n, const char *nonce, struct handler_output *out, struct err *e)
{
	char mark[sizeof MARK + HANDLER_NONCE_LEN + 1];
	int len = snprintf(mark, sizeof mark, MARK "%.*s ", HANDLER_NONCE_LEN, nonce);
	const char *at = find_mark(text, n, mark, (size_t)len), *end;

	*out = (struct handler_output){.before = n, .after = text + n};
	if (!at)
		return HANDLER_NO_VALUE;
	end = memchr(at + len, '\n', n - (size_t)(at + len - text));
	out->before = (size_t)(at - text);
	out->after = end + 1;
	out->after_bytes = n - (size_t)(end + 1 - text);
	if (check_value(at + len, (size_t)(end - at) - (size_t)len, e) < 0)
		return HANDLER_BAD_VALUE;
	out->value = at + len;
	out->value_bytes = (size_t)(end - at) - (size_t)len;
	return HANDLER_VALUE;
}
