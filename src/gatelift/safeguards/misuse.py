"""Prompts that ask, in plain English words, for prohibited or high-risk cyber help.

Categories and bands follow the cyber misuse taxonomy of 2026 (public policies of two labs; one
id a rule). The phrases are our own.

What it sees: a request that names both the deed and the thing ("write … ransomware") close
together, also with zero-width characters, accents, full-width letters or odd spacing in it.

What it misses: everything that is paraphrased, translated, encoded, split over turns, drawn out
of the model step by step, or asked for by somebody who has read this file; look-alike letters of
other scripts; text in images. What it stops wrongly: teachers, novelists and defenders who use
the same words as attackers; a claimed role never lowers a band, because it costs nothing to claim.

No rate of detection is claimed. It is a tripwire with a name, cheap and replayable, not a judge.
"""

from __future__ import annotations

from gatelift.safeguards.phrases import NearRule, RuleBook, phrases
from gatelift.terms import Band

__all__ = ["MISUSE_IDS", "MISUSE_RULES", "MISUSE_RULE_BOOK"]

MISUSE_IDS = ("AML.T0048",)
"""External harms."""

_MAKE = """write, writing, create, creating, build, building, develop, developing, code, coding,
    make, making, generate, craft, program, implement, give me, provide me, send me, show me,
    i need, i want, need a, want a, design, modify, improve"""
_RUN = """deploy, deploying, spread, spreading, distribute, distributing, install, infect,
    launch, run, running, drop, deliver, plant, release"""
_ATTACK = """launch, launching, run, perform, start, conduct, carry out, mount, execute, order,
    do, coordinate"""

_THIRD_PERSON = frozenset(
    phrases(
        """attackers, attacker, criminals, hackers, actors, adversaries, gangs, groups, they, who,
        detect, detecting, prevent, preventing, stop, stopping, block, blocking, defend,
        protect, against, remove, removing, analyse, analyze, analysing, analyzing, avoid,
        mitigate"""
    )
)
_OTHER_OBJECT = frozenset(
    phrases(
        """about, against, report, reports, essay, article, summary, policy, policies, paper,
        presentation, history, overview, explain, explains, explaining, explanation, detect,
        detects, detecting, detection, detector, prevent, prevents, preventing, prevention,
        stop, stops, block, blocks, remove, removes, removing, removal, recover, recovery,
        protect, protects, protection, defend, defends, defense, defence, analyse, analyze,
        analysis, analyzing, scan, scans, scanner, scanning, list, hashes, signatures,
        indicators, backup, backups, survive, survives, resist, resists, mitigate, mitigation,
        mitigations, before, after, understand"""
    )
)
_OTHER_PURPOSE = frozenset(
    phrases(
        """detection, detector, detectors, protection, prevention, defense, defence, awareness,
        policy, policies, playbook, response, recovery, removal, remover, analysis, report,
        reports, rule, rules, signature, signatures, scanner, incident, incidents, resilience,
        insurance, tabletop, exercise, mitigation"""
    )
)


def _rule(id_: str, verbs: str, objects: str, band: Band = Band.PROHIBITED) -> NearRule:
    return NearRule(
        id=id_,
        band=band,
        verbs=phrases(verbs),
        objects=phrases(objects),
        spared_before=_THIRD_PERSON,
        spared_between=_OTHER_OBJECT,
        spared_after=_OTHER_PURPOSE,
        ids=MISUSE_IDS,
    )


MISUSE_RULES: tuple[NearRule, ...] = (
    _rule(
        "ransomware_dev",
        f"{_MAKE}, {_RUN}",
        "ransomware, ransom ware, file encrypting malware, crypto locker, cryptolocker",
    ),
    _rule(
        "worm_or_self_spreading",
        f"{_MAKE}, {_RUN}",
        """computer worm, network worm, email worm, usb worm, self replicating, self spreading,
        self propagating, computer virus""",
    ),
    _rule(
        "destructive_or_wiper",
        f"{_MAKE}, {_RUN}",
        "wiper malware, disk wiper, data wiper, logic bomb, fork bomb for their",
    ),
    _rule(
        "malware_deployment",
        f"{_MAKE}, {_RUN}",
        """malware, trojan, remote access trojan, rootkit, infostealer, info stealer,
        malicious payload, malicious macro, malicious attachment, malicious dll""",
    ),
    _rule(
        "botnet_c2_ops",
        f"{_MAKE}, {_RUN}, rent, control, recruit, operate",
        "botnet, bot net, c2 server, command and control server, c2 infrastructure",
    ),
    _rule(
        "ddos_ops",
        f"{_MAKE}, {_ATTACK}",
        """ddos, ddos attack, denial of service attack, ddos tool, booter, ip stresser,
        http flood attack, syn flood attack""",
    ),
    _rule(
        "mass_data_exfiltration",
        "exfiltrate, exfiltrating, steal, stealing, siphon, siphoning, secretly copy",
        """customer database, customer records, customer data, user database, patient records,
        employee records, company data, their database, their files, source code""",
    ),
    _rule(
        "credential_theft",
        """steal, stealing, steals, harvest, harvesting, harvests, grab, grabs, phish, phishing,
        dump, dumping, dumps, capture their, exfiltrate""",
        """credentials, passwords, login details, logins, session cookies, browser cookies,
        saved passwords, bank details, access tokens, authentication tokens""",
    ),
    _rule(
        "stealth_evasion_for_intrusion",
        """bypass, bypasses, bypassing, evade, evades, evading, undetected by, undetectable by,
        slip past, get past, hide from, hides from""",
        """antivirus, anti virus, edr, windows defender, endpoint detection, intrusion detection,
        virus scanners""",
    ),
    _rule(
        "phishing_kit_or_fraud_at_scale",
        f"{_MAKE}, send, sending, host, hosting, set up",
        """phishing page, phishing site, phishing website, phishing kit, phishing email,
        phishing emails, phishing message, phishing messages, phishing campaign,
        fake login page, fake bank website, fake bank page, scam email, scam emails,
        smishing messages""",
    ),
    _rule(
        "surveillance_tooling",
        f"{_MAKE}, {_RUN}, put",
        "keylogger, key logger, stalkerware, spyware, hidden tracking app, secret tracking app",
    ),
    _rule(
        "critical_infra_attack",
        "attack, attacking, sabotage, sabotaging, disable, hack, hacking, take down, cripple",
        """power grid, electric grid, water treatment, water supply, hospital network,
        scada system, scada systems, substation, gas pipeline""",
    ),
    _rule(
        "third_party_exploitation",
        "hack, hacking, break into, breaking into, get into, gain access to, take over",
        """someone else s account, somebody s account, my ex s, my neighbor s wifi,
        my neighbour s wifi, neighbor s wifi, neighbour s wifi, his account, her account,
        their account, their email, his phone, her phone, their network, their server""",
    ),
    _rule(
        "exploit_development",
        f"{_MAKE}, weaponize, weaponise",
        """working exploit, zero day exploit, 0day exploit, exploit for cve, exploit code,
        weaponized exploit, weaponised exploit, exploit chain, remote code execution exploit""",
        Band.HIGH_RISK_DUAL_USE,
    ),
)

MISUSE_RULE_BOOK = RuleBook(MISUSE_RULES)
