"""MVTec AD under the short name that `--data MVTec` asks for."""

from anomalib.data import MVTecAD


class MVTec(MVTecAD):
    """MVTec AD: the arguments, the defaults and the download of :class:`anomalib.data.MVTecAD`.

    Example:
        >>> MVTec(category="screw").name
        'MVTecAD'
    """

    @property
    def name(self) -> str:
        """The data set's own name, so that results lie where those of ``--data MVTecAD`` do."""
        return "MVTecAD"
