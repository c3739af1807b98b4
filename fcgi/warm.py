# What a Python that waits runs: THIS, and below it one line that calls it (warm_program() of fcgi/warm.h).
#
# It imports the modules, says that it is ready (with its private pages in memory), reads one document from
# standard input (fcgi/warm.h), and from then on is what it stands for: the same names in __main__, arguments,
# variables, streams, tracebacks and exit. It imports nothing for itself: io, os and sys are there always.
#
#	how "text"	python3 -c CODE
#	    "file"	python3 FILE, which holds THIS until then
#	    "handler"	python3 -c PROGRAM, whose input is the document's
def warm(how, modules, program=None):
    import io, os, sys
    read, dup2, close, memfd_create = os.read, os.dup2, os.close, os.memfd_create

    def practise():
        # Pages that the first code would fault in: 0.8 ms of 3.4 until `pass` has ended
        text = "def f(x):\n    return [y for y in (x, 1.5, 'a')]\nprint(f({}), f'{1}')\n"
        exec(compile(text, "<string>", "exec", 0, True), {"__name__": "__main__"})
        io.TextIOWrapper(io.open(0, "rb", -1, closefd=False), "utf-8", "strict", "\n")
        close(memfd_create("stdin"))
        # What is here now needs no look when all is cleared at the end: 1 ms
        new = "gc" not in sys.modules
        import gc
        gc.collect()
        gc.freeze()
        if new:
            del sys.modules["gc"]

    def load(modules):
        # what a module prints when it is imported is no output of the code
        null, out = os.open(os.devnull, os.O_WRONLY), os.dup(1)
        dup2(null, 1)
        for module in modules:
            __import__(module)
        practise()
        sys.stdout.flush()
        dup2(out, 1)
        close(null)
        close(out)

    def private_pages():
        fd = os.open("/proc/self/statm", os.O_RDONLY)
        resident, shared = read(fd, 200).split()[1:3]
        close(fd)
        return int(resident) - int(shared)

    def exactly(n):
        parts = []
        while n > 0:
            part = read(0, min(n, 1 << 20))
            if not part:
                os._exit(0)  # nobody wants us
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def put_input(data):
        if data is None:
            fd = os.open(os.devnull, os.O_RDONLY)
        else:
            fd = memfd_create("stdin")
            while data:
                data = data[os.write(fd, data):]
            os.lseek(fd, 0, os.SEEK_SET)
        dup2(fd, 0)
        close(fd)
        # what the old one knows of its descriptor is not true any more
        old, raw = sys.stdin, io.open(0, "rb", -1, closefd=False)
        raw.raw.name = "<stdin>"
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(raw, old.encoding, old.errors, "\n")
        sys.stdin.mode = "r"

    def hide_ourselves():
        # for the interpreter, which prints what nobody caught when all of us has returned
        hook = sys.excepthook

        def show(kind, value, tb):
            sys.excepthook = hook
            ours = True
            while ours and tb is not None:
                ours = tb.tb_frame.f_code is not run.__code__
                tb = tb.tb_next
            value.__traceback__ = tb
            hook(kind, value, tb)
        sys.excepthook = show

    def run():
        try:
            exec(compile(code, where, "exec", 0, True), names)
        except BaseException:
            hide_ourselves()
            raise

    load(modules + ["json", "linecache"] if program else modules)  # those it imports itself
    os.write(1, b"ready %d\n" % private_pages())
    nargs, nenv, nstrings, ncode, ninput = map(int, exactly(64).split())
    strings = exactly(nstrings).split(b"\0")
    code = exactly(ncode)
    put_input(exactly(ninput) if ninput >= 0 else None)
    names = sys.modules["__main__"].__dict__
    del names["warm"]
    where = "<string>"
    if how == "file":
        where = names["__file__"]
        with open(where, "wb", 0) as file:
            file.write(code)
    else:
        code = program or os.fsdecode(code)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[2] = code
        code += "\n"
    sys.argv += map(os.fsdecode, strings[:nargs])
    for variable in strings[nargs:nargs + nenv]:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    if hasattr(sys, "orig_argv"):
        sys.orig_argv += sys.argv[1:]
    return run


