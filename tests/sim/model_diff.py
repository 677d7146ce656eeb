#!/usr/bin/env python3
"""Random histories of the reference model, step by step beside the C core: both must show the same.

    model_diff.py --model DIR --replay ./model_replay [--histories N] [--from-seed S]

DIR holds model.py. Prints the seed of each history that differs, with the steps up to the difference.
"""
import argparse, subprocess, sys


class Core:
    def __init__(self, program):
        self.p = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, *words):
        self.p.stdin.write(' '.join(map(str, words)) + '\n')
        self.p.stdin.flush()

    def ask(self, *words):
        self.say(*words)
        return self.p.stdout.readline().strip()

    def tree(self, node):
        self.say('tree', node)
        out = {}
        while (line := self.p.stdout.readline()) != '.\n':
            if not line:
                raise SystemExit('the core ended')
            path, content, mode = line.rstrip('\n').split('\t')
            out[path] = (None if content == '-' else content, int(mode, 8))
        return out


def shown(rep):
    modes = rep.modes()
    return {n: (c, modes[n]) for n, c in rep.tree().items()}


def compare(core, node, rep, after):
    mine, theirs = core.tree(node), shown(rep)
    if mine != theirs:
        odd = {k: (mine.get(k), theirs.get(k)) for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)}
        raise AssertionError(f'{after}: {node} (core, model): {odd}')


def follow_collect(core, model):
    """Whenever the model forgets, so does the core, by the same knowledge."""
    plain = model.Replica.collect

    def collect(rep, members):
        plain(rep, members)
        words = [f"{m}={','.join(f'{n}:{c}' for n, c in vv.items())}" for m, vv in members.items()]
        got = int(core.ask('collect', rep.node, *words))
        left = sum(not r.versions for r in rep.regs.values())
        if got != left:
            raise AssertionError(f'{rep.node} forgets: the core keeps {got} tombstones, the model {left}')
        compare(core, rep.node, rep, 'forgetting')

    model.Replica.collect = collect


def check(core, model, seed, every_step):
    h = model.History(seed, nodes=2 + seed % 3, steps=10 + seed % 60, gc=seed % 4 > 0, same=[0.05, 0.3][seed % 2],
                      skew=[0, 0, 300][seed % 3], moves=model.MOVES[seed // 3 % 3])
    core.say('nodes', *h.reps)
    plain = h.do

    def do(op):
        plain(op)
        kind, node, *args = op
        got = core.ask(kind, node, max(0, h.clock + h.skew[node]) , *args)
        if got != h.ops[-1][-1]:
            raise AssertionError(f'{op}: the core says {got}, the model {h.ops[-1][-1]}')
        if every_step:
            for n in {node, args[0]} if kind == 'sync' else {node}:
                compare(core, n, h.reps[n], op)

    h.do = do
    try:
        h.run()
    except AssertionError as e:
        print(f'seed {seed}: {e}')
        for op in h.ops:
            print('  ', op)
        return False
    return True


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--model', required=True)
    ap.add_argument('--replay', required=True)
    ap.add_argument('--histories', type=int, default=500)
    ap.add_argument('--from-seed', type=int, default=0)
    args = ap.parse_args()
    sys.path.insert(0, args.model)
    import model
    core, bad = Core(args.replay), 0
    follow_collect(core, model)
    for seed in range(args.from_seed, args.from_seed + args.histories):
        bad += not check(core, model, seed, True)
        if bad == 3:
            break
    print(f'histories {args.from_seed} to {seed}: {bad} differ')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
