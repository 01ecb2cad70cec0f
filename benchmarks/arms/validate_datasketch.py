"""One round of benchmarks/validate.py through datasketch: python validate_datasketch.py texts.json

The texts come normalised. Each is asked for in the index, and put into it if nothing near is there: what datasketch's
own guide does, without verifying candidates by their true similarity. Prints one JSON line: the texts, how many were
dropped, and the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datasketch import MinHash, MinHashLSH


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    size, permutations = work["shingle"], work["permutations"]
    started = time.perf_counter()
    index = MinHashLSH(threshold=work["threshold"], num_perm=permutations)
    shingles = (
        [shingle.encode() for shingle in {text[at : at + size] for at in range(max(1, len(text) - size + 1))}]
        for text in work["texts"]
    )
    dropped = 0
    for number, sketch in enumerate(MinHash.generator(shingles, num_perm=permutations, seed=1)):
        if index.query(sketch):
            dropped += 1
        else:
            index.insert(str(number), sketch)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": len(work["texts"]), "failing": dropped, "seconds": seconds}))


if __name__ == "__main__":
    main()
