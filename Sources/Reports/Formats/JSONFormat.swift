extension ReportFormat {
    /// Indented, for people; the endpoint writes it in one line.
    public static let json = ReportFormat("json") { report, _ in try ReportJSON.text(report, isPretty: true) }
}
