"""Words that titles hold beside a subject's id and name, in the languages of the sites: visits, places, examinations, nobody.

All are written small. Whoever finds a word of a title taken for a name, or a phantom for a subject, adds it here.
"""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


VISITS = _set(
    "visit visits vis vst ses sess session sessions timepoint tp time fu fup followup follow baseline bl day week wk "
    "month mo year yr wave round run scan scans rep repeat part phase besuch termin sitzung tag woche monat jahr messung "
    "visite seance séance jour semaine mois année annee passage wizyta sesja dzień dzien tydzień tydzien miesiąc miesiac "
    "rok badanie visita sesion sesión sessione giorno"
)
"""Words beside the number of a visit, a session or a point in time."""

VISIT_LETTERS = _set("v t f w m d y r")
"""Single letters before the number of a visit; with three digits or more they may begin a subject's id."""

SUBJECTS = _set(
    "sub subj subject p pt pat patient participant ppt proband probandin vp vpn sujet suj patientin pacjent badany "
    "uczestnik mrn id pid sid subjid"
)
"""Words and letters before the number of a subject."""

LABELS = _set("mrn id pid sid subjid patient subject participant proband pacjent sujet")
"""Those that announce an id without being part of it: of ``MRN-123456`` the digits are the id."""

PLACES = _set(
    "room raum salle sala scanner slot bed coil phone tel ext age alter âge wiek study studie étude etude projekt project "
    "protocol protokoll grant ethics reb irb cohort group gruppe groupe arm site centre center block version weight height "
    "dose nr no number numer nummer"
)
"""Words beside a number that says something other than who the subject is."""

NOBODY = _set(
    "phantom phantoms qa qc maintenance service servicing calibration meeting training cancelled canceled blocked reserved "
    "downtime demo demonstration engineer engineering upgrade installation cleaning closed holiday shutdown outage "
    "unavailable workshop seminar inspection helium shimming "
    "wartung kalibrierung schulung besprechung gesperrt sperrung führung einweisung einarbeitung kurs stillstand ausfall "
    "reparatur reinigung qs feiertag geschlossen vorführung "
    "fantôme fantome entretien formation réunion reunion étalonnage etalonnage bloqué panne fermé fermeture dépannage "
    "fantoma mantenimiento calibración calibracion reunión formación formacion curso avería averia bloqueado cerrado "
    "limpieza festivo fantoccio manutenzione calibrazione taratura riunione formazione guasto bloccato chiuso pulizia "
    "fantoom onderhoud kalibratie vergadering opleiding scholing cursus storing geblokkeerd gesloten "
    "manutenção manutencao calibração reunião treinamento treino formação avaria fechado limpeza "
    "fantom underhåll vedligehold vedligeholdelse vedlikehold kalibrering möte møde møte utbildning uddannelse opplæring "
    "stängt lukket stengt spärrad fantomi huolto kalibrointi kokous koulutus "
    "kalibracja konserwacja szkolenie spotkanie serwis awaria"
)
"""Words of bookings that are for no subject."""

ALSO_NAMES = _set(
    "demo demonstration kurs curso cursus seminar workshop formation formación formacion formazione formação holiday closed "
    "engineer inspection führung einweisung einarbeitung storing chiuso fechado cerrado"
)
"""Those of them that may be a name, or stand beside a subject: they count where no number could be an id."""

COMPOUNDS = [
    "phantom",
    "fantom",
    "fantoom",
    "wartung",
    "kalibrier",
    "kalibrer",
    "schulung",
    "onderhoud",
    "underhåll",
    "vedligehold",
    "vedlikehold",
    "spulentest",
    "qualitätss",
    "qualitätsk",
    "kwaliteits",
    "kvalitets",
]
"""Parts of such words in languages that write several as one: Phantommessung, Gerätewartung."""

PHRASES = re.compile(
    r"quality (?:control|assurance)|contr[ôo]le (?:de )?qualit[ée]|control de calidad|garant[íi]a de calidad"
    r"|controllo (?:di |della )?qualit[àa]|controle de qualidade|kontrola jako[śs]ci|coil (?:test|check)(?:ing)?"
    r"|out of (?:order|service)|hors service|fuera de servicio|fuori servizio|buiten gebruik|außer betrieb|ur funktion"
)
WITHDRAWN = _set("cancelled canceled blocked reserved closed gesperrt bloqué bloqueado bloccato geblokkeerd")
"""Words that take a booking away from its subject, whoever that is."""

EXAMINATIONS = _set("mri mr mrt irm fmri eeg meg ct pet spect dti dwi rest task flair bold asl mrs us xr")
"""Words for what is done."""

ASIDE = VISITS | PLACES | NOBODY | EXAMINATIONS
"""Letters that do not begin a subject's id: ``ses01``, ``MRI2``, ``Room3``."""

OTHERS = EXAMINATIONS | _set(
    "rs spectroscopy imaging scan scanning pilot pilots piloting up follow followup baseline control controls ctrl hc "
    "patient patients healthy volunteer volunteers kontrolle kontrollen contrôle pacjent test testing rescan repeat screening "
    "main extra pre post am pm morning afternoon evening left right links rechts gauche droite brain head neck spine knee hip "
    "shoulder ankle wrist hand foot heart cardiac liver kidney prostate breast abdomen pelvis chest whole body kopf knie hüfte "
    "herz cerveau genou tête głowa kolano with without contrast and or of the mit ohne et avec sans new old first second "
    "third last backup urgent short long session visit treatment placebo arm group wait list"
)
"""Words that name an examination, a visit or an arm of a study: never a person."""

PARTICLES = _set(
    "van der den de von vom zu zum zur la le du da dos das do di del della el al bin bint ibn ter ten y e i und op"
)
"""Words of a name that are written small."""

STAFF = _set("dr prof professor docteur dott dra doc mtra mta mtr op operator pi ra rad tech")
"""Words before the name of somebody who scans or refers, not of who is scanned."""

UNITS = _set("t y yo yr yrs yrs years kg min mins h hr hrs mm cm ch st nd rd th x ms s j")
"""Letters after a number that make it a quantity: ``3T``, ``45min``, ``2nd``."""

LABELLING = frozenset(word for word in VISITS | SUBJECTS | PLACES | NOBODY | OTHERS if len(word) > 1)
"""Words that are no part of a name, whatever stands beside them."""
