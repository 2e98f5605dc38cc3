"""The Triton kernels behind `fused`: prepare, scan, summits, pick, rescore, refine, rank, conclude.

Each is one pass over what it names; `fused` launches them in this order. TRITON_INTERPRET=1 runs them on a CPU.
"""

# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false
# (Triton turns these functions into kernels; their launch and their constant branches are its own language.)
from typing import no_type_check

import triton
import triton.language as tl

FAR = tl.constexpr(-1e30)
"""Stands for minus infinity, so that 0 times it is 0."""


@triton.jit
@no_type_check  # a kernel is compiled from its source; it must not be wrapped
def prepare(
    vectors, centre, parts, norm, n_rows, D: tl.constexpr, BK: tl.constexpr, ROWS: tl.constexpr, SPLIT: tl.constexpr
):
    """Squared norms of some rows, and with SPLIT their two bfloat16 parts, centred: hi | lo, in one pass."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_row = (row < n_rows)[:, None]
    start = row.to(tl.int64)[:, None]
    squares = tl.zeros((ROWS,), tl.float32)
    for k in range(0, D, BK):
        col = k + tl.arange(0, BK)
        inside = inside_row & (col < D)[None, :]
        v = tl.load(vectors + start * D + col[None, :], mask=inside, other=0.0).to(tl.float32)
        if SPLIT:
            v = tl.where(inside, v - tl.load(centre + col, mask=col < D, other=0.0)[None, :], 0.0)
            hi = v.to(tl.bfloat16)
            lo = (v - hi.to(tl.float32)).to(tl.bfloat16)
            tl.store(parts + start * (2 * D) + col[None, :], hi, mask=inside)
            tl.store(parts + start * (2 * D) + D + col[None, :], lo, mask=inside)
            v = hi.to(tl.float32) + lo.to(tl.float32)
        squares += tl.sum(v * v, 1)
    tl.store(norm + row, squares, mask=row < n_rows)


@triton.jit
@no_type_check
def _load(rows, at, inside, WHOLE: tl.constexpr):
    """Coordinates `at` of rows, zero where they are past the last."""
    if WHOLE:
        return tl.load(rows + at[None, :])
    else:
        return tl.load(rows + at[None, :], mask=inside[None, :], other=0.0)


@triton.jit
@no_type_check
def scan(
    queries, patterns, norm, query_groups, pattern_groups, self_index, best, level, total,
    n_queries, n_patterns, n_groups, span, scale,
    D: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    ENERGY: tl.constexpr, GROUPS: tl.constexpr, SELF: tl.constexpr, OPERAND: tl.constexpr, FLAT: tl.constexpr,
):  # fmt: skip
    """Walk one block of queries over one span of patterns; t = scale (x.p - |p|^2 / 2) is -beta (d^2 - |x|^2) in bits.

    A row of a product lies on four threads, pairs of columns in turn. Each keeps sums of its own (the axis of 4), so
    that none waits for the others before the end.
    """
    span_number = tl.program_id(1)
    row = tl.program_id(0) * BQ + tl.arange(0, BQ)
    safe_row = tl.minimum(row, n_queries - 1).to(tl.int64)
    wide = tl.arange(0, BK)
    STEPS: tl.constexpr = (D + BK - 1) // BK
    PARTS: tl.constexpr = 3 if SPLIT else 1
    STRIDE: tl.constexpr = 2 * D if SPLIT else D
    ONCE: tl.constexpr = D <= BK and not SPLIT  # a query fits in one step and stays
    if ONCE:
        q = _load(queries + safe_row[:, None] * D, wide, wide < D, D == BK)
    if GROUPS:
        own_group = tl.load(query_groups + safe_row)
    if SELF:
        own = tl.load(self_index + safe_row)
    top = tl.full((BQ, 4), FAR, tl.float32)
    mass = tl.zeros((BQ, 4), tl.float32)
    first = span_number * span
    last = tl.minimum(first + span, n_patterns)
    for start in tl.range(first, last, BM, flatten=FLAT):  # flat: loads for the next tile run ahead of this one's sums
        col = start + tl.arange(0, BM)
        safe_col = tl.minimum(col, n_patterns - 1).to(tl.int64)
        if ONCE:
            p = _load(patterns + safe_col[:, None] * D, wide, wide < D, D == BK)
            s = tl.dot(q.to(OPERAND), tl.trans(p.to(OPERAND)))
        else:
            s = tl.zeros((BQ, BM), tl.float32)
            for step in range(0, PARTS * STEPS):
                at = (step % STEPS) * BK + wide
                part = step // STEPS  # hi, lo, hi of the query with hi, hi, lo of the pattern
                at_q, at_p = at + (part % 2) * D, at + (part // 2) * D
                q = _load(queries + safe_row[:, None] * STRIDE, at_q, at < D, D % BK == 0)
                p = _load(patterns + safe_col[:, None] * STRIDE, at_p, at < D, D % BK == 0)
                s = tl.dot(q.to(OPERAND), tl.trans(p.to(OPERAND)), s)
        b = tl.load(norm + col, mask=col < n_patterns, other=0.0) * (0.5 * scale)
        t = s * scale - tl.where(col < n_patterns, b, -FAR)[None, :]
        if GROUPS:
            theirs = tl.load(pattern_groups + safe_col)
            t = tl.where(own_group[:, None] == theirs[None, :], FAR, t)
        if SELF:
            t = tl.where(own[:, None] == col[None, :], FAR, t)
        cells = tl.reshape(t, (BQ, BM // GROUP, GROUP // 8, 4, 2))
        peaks = tl.max(tl.max(cells, 2), 3)
        group = start // GROUP + tl.arange(0, BM // GROUP)
        kept = (row < n_queries)[:, None] & (group < n_groups)[None, :]
        tl.store(best + safe_row[:, None] * n_groups + group[None, :], tl.max(peaks, 2), mask=kept)
        if ENERGY:
            higher = tl.maximum(top, tl.max(peaks, 1))
            e = tl.exp2(cells - higher[:, None, None, :, None])
            mass = mass * tl.exp2(top - higher) + tl.sum(tl.sum(tl.sum(e, 2), 3), 1)
            top = higher
    if ENERGY:
        highest = tl.max(top, 1)
        at = span_number * n_queries + safe_row
        tl.store(level + at, highest, mask=row < n_queries)
        tl.store(total + at, tl.sum(mass * tl.exp2(top - highest[:, None]), 1), mask=row < n_queries)


@triton.jit
@no_type_check
def summits(best, highest, n_runs, RUN: tl.constexpr, ROWS: tl.constexpr):
    """The highest value of every run of neighbouring groups."""
    run = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = run < n_runs
    values = tl.load(best + run[:, None] * RUN + tl.arange(0, RUN)[None, :], mask=inside[:, None], other=FAR)
    tl.store(highest + run, tl.max(values, 1), mask=inside)


@triton.jit
@no_type_check
def pick(values, runs, highest, places, n, n_runs, count, SIGN: tl.constexpr, RUN: tl.constexpr, N: tl.constexpr):
    """The `count` highest (SIGN 1) or lowest (-1) of a row and where they stand, in order, the first among equals.

    With RUN > 1 only what lies in the chosen runs is looked at.
    """
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, N)
    if RUN > 1:
        inside = at < n_runs * RUN
        at = tl.load(runs + row * n_runs + at // RUN, mask=inside, other=0).to(tl.int32) * RUN + at % RUN
    else:
        inside = at < n
    left = tl.where(inside, SIGN * tl.load(values + row * n + at, mask=inside, other=0.0), -float("inf"))
    for i in range(count):
        best = tl.max(left, 0)
        place = tl.minimum(tl.min(tl.where(left == best, at, 2147483647), 0), n - 1)
        tl.store(highest + row * count + i, SIGN * best)
        tl.store(places + row * count + i, place)
        left = tl.where(at == place, -float("inf"), left)


@triton.jit
@no_type_check
def rank(distance, index, ranked, places, n, K: tl.constexpr, N: tl.constexpr, TIE: tl.constexpr):
    """The first K of a row by distance, runs of ties in order of their index: every element counts those before it."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, N)
    one, other = at[:, None], at[None, :]
    d = tl.load(distance + row * n + one, mask=one < n, other=float("inf"))
    e = tl.load(distance + row * n + other, mask=other < n, other=float("inf"))
    i = tl.load(index + row * n + one, mask=one < n, other=-1)
    j = tl.load(index + row * n + other, mask=other < n, other=-1)
    before = (e < d) | ((e == d) & (other < one))  # the other comes before this one; and the same the other way round
    after = (d < e) | ((d == e) & (one < other))
    here, there = d < float("inf"), e < float("inf")
    tied = here & before & (tl.where(here, d, 0.0) - e <= TIE * d)
    tied_other = there & after & (tl.where(there, e, 0.0) - d <= TIE * e)
    starts = tl.sum(tied.to(tl.int32), 1) == 0
    starts_other = tl.sum(tied_other.to(tl.int32), 0) == 0
    run = tl.sum((starts_other[None, :] & (before | (one == other))).to(tl.int32), 1)[:, None]
    run_other = tl.sum((starts[:, None] & (after | (one == other))).to(tl.int32), 0)[None, :]
    first = (run_other < run) | ((run_other == run) & ((j < i) | ((j == i) & (other < one))))
    order = tl.sum(first.to(tl.int32), 1)
    kept = (at < n) & (order < K)
    tl.store(ranked + row * K + order, tl.load(distance + row * n + at, mask=at < n, other=0.0), mask=kept)
    tl.store(places + row * K + order, tl.load(index + row * n + at, mask=at < n, other=-1), mask=kept)


@triton.jit
@no_type_check
def _doubt(norm, reach, gap, residue):
    """What |x - p|^2 may err by for a pattern within `reach` of x, and what its root may lose besides.

    Such a pattern is no longer than |x| + reach; a longer one, however wrong its product, lies further away.
    """
    longest = tl.sqrt(norm) + reach
    return gap * (norm + longest * longest), residue * (tl.sqrt(norm) + longest)


@triton.jit
@no_type_check
def rescore(
    queries, patterns, groups, peaks, norm, query_groups, pattern_groups, self_index, distance,
    n_patterns, n_taken, n_peaks, sigma, gap, residue, K: tl.constexpr,
    D: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr, SELF: tl.constexpr,
):  # fmt: skip
    """Squared distances of one query to all patterns of one group, from the differences; infinite if banned.

    A group beyond the first K is read only where its bound leaves it a chance.
    """
    row, taken = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = distance + (row * n_taken + taken) * GROUP + tl.arange(0, GROUP)
    n_x = tl.load(norm + row)
    kth = n_x - tl.load(peaks + row * n_peaks + tl.minimum(K, n_peaks) - 1) / sigma
    slack, lost = _doubt(n_x, tl.sqrt(tl.maximum(kth, 0.0)), gap, residue)
    furthest = tl.sqrt(tl.maximum(kth + slack, 0.0)) + 2 * lost
    if (taken >= K) & (n_x - tl.load(peaks + row * n_peaks + taken) / sigma - slack > furthest * furthest * 1.00001):
        tl.store(place, tl.full((GROUP,), float("inf"), tl.float32))
        return
    col = tl.load(groups + row * n_peaks + taken) * GROUP + tl.arange(0, GROUP)
    allowed = col < n_patterns
    col = tl.where(allowed, col, 0)
    if GROUPS:
        allowed = allowed & (tl.load(pattern_groups + col) != tl.load(query_groups + row))
    if SELF:
        allowed = allowed & (col != tl.load(self_index + row))
    wide = tl.arange(0, BK)
    squares = tl.zeros((GROUP,), tl.float32)
    for k in range(0, D, BK):
        inside = (k + wide) < D
        q = tl.load(queries + row * D + k + wide, mask=inside, other=0.0).to(tl.float32)
        p = tl.load(patterns + col[:, None] * D + (k + wide)[None, :], mask=inside[None, :], other=0.0)
        away = p.to(tl.float32) - q[None, :]
        squares += tl.sum(away * away, 1)
    tl.store(place, tl.where(allowed, squares, float("inf")))


@triton.jit
@no_type_check
def refine(
    queries, patterns, groups, spots, rough, distance, index, n_patterns, n_kept, n_peaks,
    D: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The index and the float64 squared distance of one pattern kept from the rescored groups."""
    row = tl.program_id(0).to(tl.int64)
    place = row * n_kept + tl.program_id(1)
    if tl.load(rough + place) == float("inf"):
        tl.store(distance + place, float("inf"))
        tl.store(index + place, -1)
        return
    spot = tl.load(spots + place)
    col = tl.load(groups + row * n_peaks + spot // GROUP) * GROUP + spot % GROUP
    wide = tl.arange(0, BK)
    squares = tl.zeros((BK,), tl.float64)
    for k in range(0, D, BK):
        inside = (k + wide) < D
        q = tl.load(queries + row * D + k + wide, mask=inside, other=0.0).to(tl.float64)
        away = tl.load(patterns + col * D + k + wide, mask=inside, other=0.0).to(tl.float64) - q
        squares += away * away
    tl.store(distance + place, tl.sum(squares, 0))
    tl.store(index + place, col)


@triton.jit
@no_type_check
def conclude(
    norm, peaks, distance, rough, level, total, proven, energy, error, missed,
    n_queries, n_spans, n_peaks, n_taken, n_kept, sigma, beta, gap, residue, summing,
    K: tl.constexpr, BQ: tl.constexpr, ALL_KEPT: tl.constexpr, ALL_TAKEN: tl.constexpr, ENERGY: tl.constexpr,
):  # fmt: skip
    """What is proven of each row's neighbours; its energy from all spans, the worst error of it, and the one met."""
    row = tl.program_id(0) * BQ + tl.arange(0, BQ)
    inside = row < n_queries
    n_x = tl.load(norm + row, mask=inside, other=1.0)
    kth = tl.load(distance + row * K + K - 1, mask=inside, other=0.0).to(tl.float32)
    reach = tl.sqrt(kth)
    sure = inside
    if not ALL_KEPT:  # the next in line, by float32 differences, which are right to 1e-5
        sure = sure & (tl.load(rough + row * n_kept + n_kept - 1, mask=inside, other=0.0) > kth * 1.00001)
    if not ALL_TAKEN:
        slack, lost = _doubt(n_x, reach, gap, residue)
        next_best = n_x - tl.load(peaks + row * n_peaks + n_taken, mask=inside, other=0.0) / sigma
        sure = sure & (tl.sqrt(tl.maximum(next_best - slack, 0.0)) - lost > reach * 1.00001)
    else:
        sure = sure | (kth == float("inf"))
    tl.store(proven + row, sure, mask=inside)
    if ENERGY:
        top = tl.full((BQ,), FAR, tl.float32)
        mass = tl.zeros((BQ,), tl.float32)
        for span in range(n_spans):
            at = span * n_queries + row
            height = tl.load(level + at, mask=inside, other=FAR)
            amount = tl.load(total + at, mask=inside, other=0.0)
            higher = tl.maximum(top, height)
            mass = tl.exp2(top - higher) * mass + tl.exp2(height - higher) * amount
            top = higher
        mass = tl.where(mass > 0, mass, 1.0)  # rows past the end hold nothing
        e = n_x.to(tl.float64) - (top.to(tl.float64) + tl.log2(mass).to(tl.float64)) / sigma
        empty = top < 0.9 * FAR
        e32 = tl.maximum(e.to(tl.float32), 0.0)
        slack, lost = _doubt(n_x, tl.sqrt(e32 + 40 / beta), gap, residue)  # exp(-40) of the sum lies further
        worst = slack + lost * (lost + 2 * tl.sqrt(e32)) + summing / beta
        first = tl.load(distance + row * K, mask=inside, other=0.0).to(tl.float32)
        met = tl.abs(first - n_x + tl.load(peaks + row * n_peaks, mask=inside, other=0.0) / sigma)
        tl.store(energy + row, tl.where(empty, float("inf"), e), mask=inside)
        tl.store(error + row, tl.where(empty, 0.0, worst), mask=inside)
        tl.store(missed + row, tl.where(empty, 0.0, met), mask=inside)
