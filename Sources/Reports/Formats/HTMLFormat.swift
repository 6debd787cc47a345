extension ReportFormat {
    /// The page with all reports inside. It takes more than one report, so that commands make it of a snapshot, or ask a collector for
    /// each (`RecordedReports`).
    public static let html = ReportFormat("html", holdsAllReports: true, offeredBy: { $0 is PathsReport.Type }) { _, _ in nil }
}
