"""What must hold, with the numbers from the project's plan."""
from results import Claim


def ratio(a, b):
    return a / b


def over(a, b, base):
    """How much more than the bare process one takes, against how much more the other."""
    return (a - base) / (b - base)


def claims():
    """In the order of the report."""
    out = []
    for p, what, cold, prepared in (("s", "static `true`", (7.5, 6.0), (5.5, 4.5)), ("d", "Debian's `true`", (2.8, 2.2), (2.3, 1.9))):
        base = p + "-spawn"
        out += [Claim("library launch, %s, fresh network, x posix_spawn" % what, ratio, (p + "-cold", base), *cold),
                Claim("the same, prepared network, x posix_spawn", ratio, (p + "-prepared", base), *prepared),
                Claim("the least that such a sandbox takes, %s, x posix_spawn" % what, ratio, (p + "-bare", base), None, None),
                Claim("bwrap with our filter, %s, x posix_spawn" % what, ratio, (p + "-bwrap-filter", base), None, None)]
    out += [Claim("`cgibox run --rootfs`, time over the bare process, x bwrap's", over, ("d-run", "d-bwrap", "d-spawn"), 0.7, 0.5),
            Claim("POST `true`, 8 at once, x FastAPI", ratio, ("rate-ours-8", "rate-fastapi-8"), 2.5, 4, True),
            Claim("POST `true`, 1 at once, x FastAPI", ratio, ("rate-ours-1", "rate-fastapi-1"), 2.0, 3, True),
            Claim("POST `true`, 64 at once, x FastAPI", ratio, ("rate-ours-64", "rate-fastapi-64"), None, None, True)]
    out += [Claim("the least that such a sandbox takes there, %d at once, x FastAPI" % n, ratio, ("rate-least-%d" % n, "rate-fastapi-%d" % n), None, None, True) for n in (8, 1)]
    out += [Claim("POST `true`, %d at once, x no sandbox" % n, ratio, ("rate-ours-%d" % n, "rate-plain-%d" % n), 0.35, 0.6, True) for n in (1, 8)]
    out += [Claim("the least that such a sandbox takes there, %d at once, x no sandbox" % n, ratio, ("rate-least-%d" % n, "rate-plain-%d" % n), None, None, True) for n in (8, 1)]
    out += [Claim("sparse requests, cold over prepared", ratio, ("sparse-ours", "sparse-pool"), 1.2, 1.5, True),
            Claim("saturated (64), prepared over cold, requests", ratio, ("rate-pool-64", "rate-ours-64"), 1.0, 1.0, True),
            Claim("`docker exec` over POST to a live session", ratio, ("d-docker-exec", "time-live-1"), 15, 40, True),
            Claim("`docker exec` over the library's exec into a live sandbox", ratio, ("d-docker-exec", "d-live"), 15, 40, True),
            Claim("`docker exec` by the Engine API over the same", ratio, ("d-docker-api", "d-live"), None, None, True),
            Claim("`python3 -c pass`, cold, x bare interpreter", ratio, ("p-cold", "p-spawn"), 1.2, 1.1),
            Claim("bwrap and cold Python over a warm interpreter", ratio, ("w-bwrap", "w-warm"), 3, 5, True),
            Claim("JSON body of 50 MB, jansson's time over ours", ratio, ("json-jansson", "json-ours"), 5, 12, True),
            Claim("its memory, x body", lambda a: a, ("json-memory-ours",), 2.5, 0.2),
            Claim("unpacking tar.gz, bsdtar's time over ours", ratio, ("unpack-bsdtar.gz", "unpack-ours.gz"), 1.5, 2.5, True),
            Claim("parked sandbox without network namespace, KiB", lambda a: a, ("park-host",), 150, 110),
            Claim("parked sandbox with network namespace, KiB", lambda a: a, ("park-own",), 350, 280),
            Claim("idle service, MiB", lambda a: a, ("idle-ours",), 24, 12),
            Claim("100 forks of a session with 100,000 files, ms", lambda a: a, ("fork-100000",), 250, 50)]
    return out
