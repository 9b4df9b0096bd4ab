"""What a site's own words mean: statuses in the languages that Calpendo is used in, and scanners by their names.

Only what is surely understood has a meaning here. A word that means one thing in one language and another in the next
("klar": ready in Norwegian, done in Swedish) is left out: a person is asked instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from pipeline.transform.text import comparable
from pipeline.transform.vocabularies import COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED, STATUSES

_STATUS_WORDS: Final[Mapping[str, str]] = {
    # Commas part the entries; "cancelad|o|a" stands for two of them.
    DISCONTINUED: """
        cancelled, canceled, cancellation, denied, rejected, refused, declined, withdrawn, deleted, aborted, no show,
        noshow, did not attend, dna, not approved,
        storniert, abgesagt, abgelehnt, gelöscht, annulliert, nicht erschienen, abgebrochen, verweigert, zurückgezogen,
        ausgefallen, entfallen, entfällt, nicht genehmigt,
        annulé|||e, refusé|||e, rejeté|||e, supprimé|||e, non présenté|||e, décommandé|||e, interrompu|||e,
        cancelad|o|a, anulad|o|a, rechazad|o|a, denegad|o|a, no presentad|o|a, no asistió, eliminad|o|a, suspendid|o|a,
        annullat|o|a, cancellat|o|a, rifiutat|o|a, respint|o|a, disdett|o|a, non presentat|o|a, negat|o|a,
        geannuleerd, afgezegd, afgewezen, geweigerd, niet verschenen, vervallen, ingetrokken, afgelast,
        rejeitad|o|a, recusad|o|a, negad|o|a, não compareceu, desmarcad|o|a,
        avbokad, inställd, nekad, avslagen, avbruten, uteblev, avvisad, avbokat, inställt,
        aflyst, afvist, annulleret, udeblevet, afbrudt, udeblev,
        avlyst, avvist, kansellert, avbestilt, ikke møtt, avslått, avbrutt,
        peruttu, peruutettu, hylätty,
        anulowan|y|a|e, odwołan|y|a|e, odrzucon|y|a|e
    """,
    COMPLETED: """
        completed, complete, done, finished, performed, attended, carried out,
        abgeschlossen, erledigt, durchgeführt, beendet, fertig, stattgefunden, ausgeführt,
        terminé|||e, réalisé|||e, effectué|||e, achevé|||e, fini|||e, fait|||e, clos|||e,
        completad|o|a, terminad|o|a, realizad|o|a, finalizad|o|a, hech|o|a, concluid|o|a, efectuad|o|a,
        completat|o|a, terminat|o|a, eseguit|o|a, effettuat|o|a, conclus|o|a, finit|o|a, fatt|o|a,
        voltooid, afgerond, uitgevoerd, afgelopen, beëindigd,
        concluíd|o|a, complet|o|a, feit|o|a, efetuad|o|a, executad|o|a,
        avslutad, slutförd, genomförd, färdig, utförd, avslutat, genomfört,
        afsluttet, gennemført, udført, færdig, fuldført,
        fullført, avsluttet, gjennomført, utført, ferdig,
        suoritettu, päättynyt, tehty, valmis,
        zakończon|y|a|e, wykonan|y|a|e, ukończon|y|a|e, zrealizowan|y|a|e
    """,
    IN_PROGRESS: """
        in progress, running, started, ongoing, in process, under way, underway, scanning,
        läuft, laufend, begonnen, gestartet, in durchführung,
        en cours, commencé|||e, démarré|||e,
        en curso, en progreso, iniciad|o|a, en marcha, empezad|o|a,
        in corso, iniziat|o|a, avviat|o|a,
        bezig, lopend, gestart, in uitvoering,
        em andamento, em curso, em progresso, em execução,
        pågår, pågående, påbörjad, startad,
        i gang, igangværende, startet, påbegyndt, påbegynt,
        käynnissä, aloitettu,
        w toku, w trakcie, rozpoczęt|y|a|e
    """,
    SCHEDULED: """
        approved, confirmed, booked, scheduled, planned, requested, request, tentative, pending, provisional, reserved,
        accepted, waiting, awaiting approval, pending approval, submitted, unconfirmed, authorised, authorized, arrived,
        checked in,
        genehmigt, bestätigt, freigegeben, gebucht, geplant, angefragt, beantragt, angemeldet, vorläufig, vorgemerkt,
        ausstehend, reserviert, unbestätigt, akzeptiert, zugesagt, wartend, provisorisch, bewilligt, unter vorbehalt,
        approuvé|||e, confirmé|||e, validé|||e, accepté|||e, demandé|||e, provisoire, en attente, réservé|||e,
        planifié|||e, prévu|||e, programmé|||e, à confirmer, autorisé|||e, sollicité|||e,
        aprobad|o|a, confirmad|o|a, aceptad|o|a, solicitad|o|a, provisional, pendiente, reservad|o|a, programad|o|a,
        planificad|o|a, tentativ|o|a, autorizad|o|a, previst|o|a, agendad|o|a, en espera, por confirmar,
        approvat|o|a, confermat|o|a, accettat|o|a, richiest|o|a, provvisori|o|a, in attesa, prenotat|o|a,
        pianificat|o|a, programmat|o|a, autorizzat|o|a, da confermare,
        goedgekeurd, bevestigd, geaccepteerd, aangevraagd, voorlopig, gepland, geboekt, gereserveerd, in afwachting,
        ingepland, wachtend, onder voorbehoud,
        aprovad|o|a, aceit|o|a, aceite, requisitad|o|a, provisóri|o|a, pendente, marcad|o|a, planead|o|a, planejad|o|a,
        em espera, pedido,
        godkänd, bekräftad, bokad, planerad, begärd, preliminär, väntande, reserverad, accepterad, ansökt, väntar,
        godkänt, bekräftat, bokat,
        godkendt, bekræftet, booket, planlagt, anmodet, foreløbig, afventer, afventende, reserveret, accepteret, ansøgt,
        godkjent, bestilt, forespurt, foreløpig, avventer, venter, reservert, akseptert,
        hyväksytty, vahvistettu, varattu, pyydetty, alustava, odottaa, suunniteltu,
        zatwierdzon|y|a|e, potwierdzon|y|a|e, zarezerwowan|y|a|e, zaplanowan|y|a|e, oczekując|y|a|e, wstępn|y|a|e,
        zaakceptowan|y|a|e, zgłoszon|y|a|e
    """,
}

_APART: Final = str.maketrans({"ø": "o", "æ": "ae", "å": "a", "ł": "l", "ß": "ss", "đ": "d"})
_SEPARATORS: Final = re.compile(r"[\s_./-]+")


def _plain(text: str) -> str:
    """Return a text without case, accents and marks between words: as people type in a hurry."""
    folded = unicodedata.normalize("NFD", comparable(text).translate(_APART))
    bare = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return _SEPARATORS.sub(" ", bare).strip()


def _expanded() -> dict[str, str]:
    meanings: dict[str, set[str]] = {}
    for meaning, words in _STATUS_WORDS.items():
        for entry in words.split(","):
            stem, *endings = entry.strip().split("|")
            for ending in endings or [""]:
                meanings.setdefault(_plain(stem + ending), set()).add(meaning)
    return {word: found.pop() for word, found in meanings.items() if len(found) == 1}


_MEANINGS: Final = _expanded()
_BUILT_IN: Final = {comparable(name): meaning for name, meaning in STATUSES.items()}


def is_built_in(status: str) -> bool:
    """Return True for a status that needs no line in ``status_mapping``."""
    return comparable(status) in _BUILT_IN


def meaning_of_status(status: str) -> str | None:
    """Return the step status that a site's status means, or None where it is not surely understood."""
    return _BUILT_IN.get(comparable(status)) or _MEANINGS.get(_plain(status))


_TESLA: Final = re.compile(
    r"(?<![\d.,])(?:0[.,]\d+|1[.,]5|3|3[.,]0|4[.,]7|7|7[.,]0|9[.,]4|10[.,]5|11[.,][47]) ?t(?:esla)?(?![a-z]{2})"
)
_MODALITIES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (modality, re.compile(rf"(?<![^\W\d_])(?:{words})(?![^\W\d_])"))
    for modality, words in (
        ("MEG", "o?meg|magnetoencephalogra\\w*|magnetoenzephalogra\\w*"),
        ("EEG", "eeg|hd ?eeg|elec?tro[- ]?encephalogra\\w*|elektroenzephalogra\\w*"),
        ("PT", "pet|pet ?ct|tep"),
        ("CT", "ct|computed tomography|computertomogra\\w*|tdm|scanner ct"),
        ("US", "ultrasound|ultraschall|sonogra\\w*|echograph\\w*|echografie|ecografia|ecógrafo"),
        ("MG", "mammogra\\w*"),
        ("NM", "spect|spect ?ct"),
        ("ECG", "ecg|ekg"),
        (
            "MR",
            (
                "mr|mri|mrt|irm|rmn|rmi|fmri|irmf|fmrt|mrs|magnetom|prisma|skyra|trio|vida|verio|aera|avanto|terra|sola|lumina"
                "|cima|espree|symphony|sonata|allegra|biograph ?mmr|achieva|ingenia|intera|panorama|elition|ambition|signa|premier"
                "|architect|discovery ?mr\\d*|optima ?mr\\d*|vantage|titan|orian|galan|echelon|umr ?\\d*|biospec"
                "|magnetic resonance|magnetresonanz\\w*|kernspin\\w*|resonancia\\w*|resonância\\w*|risonanza\\w*|résonance\\w*"
                "|rezonans\\w*|magnetkamera\\w*"
            ),
        ),
    )
)
_HYBRID: Final = re.compile(r"(?<![a-z])(?:pet|tep)[ /-]*(?:mr|mri|irm|mrt)(?![a-z])|(?<![a-z])mmr(?![a-z])")
_NO_SCANNER: Final = re.compile(
    r"mock|simulator|simulateur|simulador|dummy|maquette|attrappe|sham|practice|übungs|training|oefen|"
    r"(?<![^\W\d_])coils?(?![^\W\d_])|spule|bobine|bobina|headphone|projector|beamer|goggle|eye ?track|stimul|laptop|workstation|"
    r"console|konsole|printer|"
    r"waiting|wartezimmer|warteraum|wachtkamer|attente|espera|attesa|interview|changing|umkleide|kleedkamer|vestiaire|"
    r"meeting|besprechung|seminar|vergader|réunion|reunion|reunión|riunion|control room|kontrollraum|prep(?:aration)? room|"
    r"preparation|vorbereitung|consult|office|büro|bureau|kitchen|küche|storage|lager|parking|locker|bedroom|"
    r"(?<![^\W\d_])desk|assistant|operator|radiographer|technician|mtra|staff|physicist|support|nurse|(?<![^\W\d_])car(?![^\W\d_])"
)
"""Things and rooms beside a scanner, and people who help: nobody lies in them."""


def modality_of_resource(name: str) -> str | None:
    """Return the DICOM modality (PS3.3 C.7.3.1.1.1) of a resource, None where its name does not surely tell.

    MEG has no code of its own in DICOM; ``OT`` stands for it, as in the example's configuration.
    """
    text = comparable(name)
    if is_no_scanner(name) or _HYBRID.search(text):
        return None
    spaced = re.sub(r"[_./-]+", " ", text)
    found = {modality for modality, words in _MODALITIES if words.search(spaced)}
    if {"CT", "PT"} <= found:
        found -= {"CT"}
    if _TESLA.search(text) and not found - {"MR"}:
        found = {"MR"}
    if len(found) != 1:
        return None
    modality = found.pop()
    return "OT" if modality == "MEG" else modality


def is_no_scanner(name: str) -> bool:
    """Return True for a resource whose name says that it is a room, a thing or a person beside a scanner."""
    return _NO_SCANNER.search(comparable(name)) is not None
