#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What it costs to be watched: throughput with `mirrorctl top` and a scrape a second, and without, in turns.

usage: tests/bench/watching.py [--tools=DIR] [--rounds=N] [--seconds=N]

Each round measures both, in either order by turns, on one mount of image files; fio writes and reads 4 KiB at random.
Told are the median of the rounds' ratios, and the middle half of them: noise of the machine shows there.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def iops(mnt, seconds):
    done = subprocess.run(["fio", "--name=load", "--output-format=json", f"--directory={mnt}", "--size=64m", "--bs=4k",
                           "--rw=randrw", "--ioengine=psync", "--direct=1", "--numjobs=4", "--group_reporting",
                           "--time_based", f"--runtime={seconds}"], check=True, capture_output=True, text=True)
    job = json.loads(done.stdout)["jobs"][0]
    return job["read"]["iops"] + job["write"]["iops"]


def scrape_each_second(path, ended):
    while not ended.wait(1):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            while client.recv(65536):
                pass


def watched_iops(mctl, mnt, path, seconds):
    ended = threading.Event()
    scraper = threading.Thread(target=scrape_each_second, args=(path, ended))
    with subprocess.Popen([mctl, "top", mnt], stdout=subprocess.DEVNULL) as top:
        scraper.start()
        result = iops(mnt, seconds)
        ended.set()
        scraper.join()
        top.terminate()
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", default=os.path.join(ROOT, ".build/gcc/tools"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    mctl = os.path.join(options.tools, "mirrorctl")
    with tempfile.TemporaryDirectory() as folder:
        legs, mnt = [os.path.join(folder, name) for name in ("left", "right")], os.path.join(folder, "mnt")
        os.mkdir(mnt)
        subprocess.run([os.path.join(options.tools, "mkfs.mirrorfs"), "-s", "1G", *legs], check=True,
                       capture_output=True)
        subprocess.run([os.path.join(options.tools, "mirrorfs"), *legs, mnt], check=True)
        try:
            told = subprocess.run([mctl, "--json", "status", mnt], check=True, capture_output=True, text=True).stdout
            path = f"/run/mirrorfs/{json.loads(told)['result']['volume']['uuid']}.sock"
            iops(mnt, options.seconds)
            ratios = []
            for number in range(options.rounds):
                runs = [lambda: ("alone", iops(mnt, options.seconds)),
                        lambda: ("watched", watched_iops(mctl, mnt, path, options.seconds))]
                result = dict(run() for run in (runs if number % 2 else reversed(runs)))
                ratios.append(result["watched"] / result["alone"])
                print(f"alone {result['alone']:.0f}/s, watched {result['watched']:.0f}/s", flush=True)
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"watched / alone: median {middle:.4f}, middle half {low:.4f} to {high:.4f}")
        finally:
            subprocess.run([mctl, "umount", mnt], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
